"""POST /api/upload: raw or multipart bodies into the spool, 202 or, with wait, the link."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.admission import admit, admit_again, caller_of
from gateway.client_address import limited_as
from gateway.http_errors import problem
from gateway.intake import Intake, refuse_encoding, too_large
from gateway.pace import Pace, too_slow
from gateway.services import Services, services_of
from gateway.trail import acted_on, checked_early
from zerostor.core.errors import BadRequest, QueueUnavailable, SetupError
from zerostor.core.jobs import JobState, JobUpdate, Upload
from zerostor.core.limits import (
    JOB_ID_SIZE,
    KIB,
    PACK_OBJECT_MAX,
    SALT_SIZE,
    STATUS_WAIT_MAX,
)
from zerostor.core.link import extension_of, parse_extension
from zerostor.engine.ingest import DEFAULT_POLICY
from zerostor.ports import SpoolWriter

_log = logging.getLogger(__name__)

_PART_CHUNK = 256 * KIB
_ENCODINGS = ("Content-Encoding", "Content-Transfer-Encoding")
_AS_IT_IS = ("identity", "binary", "8bit", "7bit")
_T = TypeVar("_T")


async def upload(request: web.Request) -> web.Response:
    """Take one object."""
    services = services_of(request)
    ext = _extension(request)
    wait = wait_seconds(request)
    private = _is_private(request)
    _refuse_unwanted(request, services.max_upload)
    wire = services.wire
    with wire.pressure.upload():
        await wire.key_uploads.spend(caller_of(request).key)
        await wire.uploads.spend(limited_as(request))
        return await _Upload(services, request, ext, wait, private=private).run()


async def expect_continue(request: web.Request) -> web.StreamResponse | None:
    """Refuse a body that is not wanted before the client sends it."""
    async def refuse(request: web.Request) -> web.StreamResponse:
        admit(request)
        await services_of(request).role.require_master()
        _extension(request)
        wait_seconds(request)
        _is_private(request)
        _refuse_unwanted(request, services_of(request).max_upload)
        services_of(request).wire.pressure.check()
        return web.Response()

    if request.headers.get("Expect", "").lower() == "100-continue":
        # aiohttp calls this outside of all middlewares.
        answer = await checked_early(request, refuse)
        if answer.status != 200:
            # The body will not come; the next request must not be taken for it.
            answer.force_close()
            return answer
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return None


def wait_seconds(request: web.Request) -> float:
    """The `wait` parameter, at most STATUS_WAIT_MAX. Raises BadRequest."""
    text = request.query.get("wait", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise BadRequest("wait is a number of seconds, 0 or more")
    return min(seconds, STATUS_WAIT_MAX)


class _Upload:
    """One upload request."""

    def __init__(self, services: Services, request: web.Request, ext: str | None,
                 wait: float, *, private: bool) -> None:
        self._services = services
        self._request = request
        self._ext = ext
        self._wait = wait
        self._private = private or services.policies[DEFAULT_POLICY].private
        self._job = services.random_bytes(JOB_ID_SIZE).hex()
        acted_on(request, job=self._job)
        self._queued = False
        self._pace = Pace(services.wire.limits.min_rate)

    async def run(self) -> web.Response:
        """Receive, seal, queue, and answer."""
        services = self._services
        multipart = self._request.content_type.startswith("multipart/")
        expected = None if multipart else self._request.content_length
        # Who waits for the hash was promised nothing before, so nothing has to be on disk.
        writer = await services.spool.create(self._job, expected, durable=not self._wait)
        ended = services.waiters.expect(self._job) if self._wait else None
        try:
            chunks = await self._receive(writer, multipart)
            admit_again(self._request)
            accepted_ms = int(services.clock.now() * 1000)
            salt = services.random_bytes(SALT_SIZE) if self._private else b""
            sealed = await writer.seal(chunks, Upload(
                self._job, self._ext or "", DEFAULT_POLICY, accepted_ms, salt=salt,
                owner=caller_of(self._request).key))
            await self._enqueue(sealed.size)
            update = await self._end(ended) if ended is not None else None
            if update is None and ended is not None:
                # 202 is a promise.
                await writer.sync()
        except (ConnectionError, HttpProcessingError) as error:
            raise BadRequest("the upload was broken off") from error
        except TimeoutError as error:
            raise too_slow() from error
        finally:
            if ended is not None:
                services.waiters.forget(self._job, ended)
            await writer.close()
        return self._answer(update)

    async def _receive(self, writer: SpoolWriter, multipart: bool) -> list[bytes]:
        intake = Intake(writer, self._services.max_upload, self._flushed)
        try:
            body = self._part() if multipart else self._body()
            async for chunk in body:
                await intake.feed(chunk)
            return await intake.rest()
        finally:
            await intake.close()

    async def _body(self) -> AsyncIterator[bytes]:
        content = self._request.content
        while not content.at_eof():
            if content.is_eof():
                # All of it is here, as of a small body with its head: nobody is waited for.
                yield content.read_nowait()
                return
            async with self._pace.limit():
                # Unlike readany it does not join what has gathered.
                chunk, _ = await content.readchunk()
            self._pace.came(len(chunk))
            yield chunk

    async def _part(self) -> AsyncIterator[bytes]:
        async with self._pace.limit():
            part = await _of_form(self._find_file())
        if part is None:
            raise BadRequest("the multipart body has no field named file")
        if any(part.headers.get(name, "binary").lower() not in _AS_IT_IS for name in _ENCODINGS):
            raise BadRequest("the file must be sent as it is, without an encoding of its part")
        if self._ext is None and part.filename:
            self._ext = extension_of(part.filename)
        while not part.at_eof():
            async with self._pace.limit():
                chunk = await _of_form(part.read_chunk(_PART_CHUNK))
            self._pace.came(len(chunk))
            if not chunk and not part.at_eof():
                raise BadRequest("the multipart body ends in the middle of the file")
            yield chunk

    async def _find_file(self) -> BodyPartReader | None:
        reader = await self._request.multipart()
        part = await reader.next()
        while part is not None and not _is_file(part):
            part = await reader.next()
        return part if isinstance(part, BodyPartReader) else None

    async def _flushed(self, size: int) -> None:
        # With `wait` the worker follows a large body while it arrives: the time is then the slower
        # of network and disk, not their sum. Without, it would only slow down the fsync of the 202.
        if self._wait and size > PACK_OBJECT_MAX and not self._queued:
            await self._enqueue(size)

    async def _enqueue(self, size: int) -> None:
        if self._queued:
            return
        self._queued = True
        self._services.wire.pressure.accepted()
        try:
            await self._services.queue.add([self._job], spool=self._services.spool.id)
        except (QueueUnavailable, SetupError) as error:
            # The spool is the truth: the reconciler queues it when Redis is back.
            _log.warning("job %s of %d bytes is not queued yet: %s", self._job, size, error)

    async def _end(self, ended: asyncio.Future[JobUpdate]) -> JobUpdate | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait):
                return await ended
        return None

    def _answer(self, update: JobUpdate | None) -> web.Response:
        private = {"private": True} if self._private else {}
        if update is None:
            answer = {"job": self._job, "status": f"/api/status/{self._job}"}
            return web.json_response(answer | private, status=202)
        if update.state is not JobState.DONE:
            return problem(500, "job-failed", update.detail, job=self._job)
        link = update.detail
        acted_on(self._request, object=link)
        answer = {"hash": link[:56], "link": self._services.content.link(link), "job": self._job}
        return web.json_response(answer | private)


async def _of_form(reading: Awaitable[_T]) -> _T:
    """What aiohttp reads of a form, whose errors are those of the client."""
    try:
        return await reading
    except (ValueError, RuntimeError) as error:
        raise BadRequest(f"the multipart body cannot be read: {error}") from error


def _is_file(part: object) -> bool:
    return isinstance(part, BodyPartReader) and part.name == "file"


def _extension(request: web.Request) -> str | None:
    """From ?ext=, else from ?name=; None when neither is given. Raises BadExtension."""
    if "ext" in request.query:
        return parse_extension(request.query["ext"].removeprefix("."))
    if "name" in request.query:
        return extension_of(request.query["name"])
    return None


def _is_private(request: web.Request) -> bool:
    """From ?private=. Raises BadRequest: what is a mistake must not end as a link to be guessed."""
    text = request.query.get("private", "0").lower()
    if text not in ("0", "1", "false", "true"):
        raise BadRequest("private is 1 or 0")
    return text in ("1", "true")


def _refuse_unwanted(request: web.Request, limit: int) -> None:
    refuse_encoding(request)
    multipart = request.content_type.startswith("multipart/")
    if not multipart and (request.content_length or 0) > limit:
        raise too_large(limit)
