"""Questions to the gateway of another host about its spool: addressed, signed, answers checked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import msgspec

from zerostor.core.cluster_token import ClusterKey
from zerostor.core.errors import BackendError, QueueUnavailable, SpoolAway
from zerostor.core.spool_protocol import (
    LEASE_HEADER,
    SCHEME,
    SEAL_HEADER,
    TOKEN_HEADER,
    Ask,
    Row,
    body_path,
    decode_rows,
    verb_path,
)
from zerostor.gateway_ports import GatewayLink
from zerostor.ports import Clock, JobQueue, RandomBytes

ADDRESS_SECONDS = 2.0
"""How long an announced address is believed before Redis is asked again."""
ADDRESSES_KEEP = 24 * 3600.0
_encode = msgspec.msgpack.Encoder().encode


class Gateways:
    """Where gateways are, and what it takes to be answered by them. worker: our unique name."""

    def __init__(self, queue: JobQueue, link: GatewayLink, key: ClusterKey, worker: str,
                 clock: Clock, random_bytes: RandomBytes) -> None:
        self._queue = queue
        self._link = link
        self._key = key
        self._worker = worker
        self._clock = clock
        self._random_bytes = random_bytes
        self._known: dict[str, tuple[str, float]] = {}
        self._announced: set[str] = set()
        self._ask_at = float("-inf")
        self._asking = asyncio.Lock()

    async def known(self) -> Mapping[str, str]:
        """Address by spool id, of all that were announced within ADDRESSES_KEEP.

        Redis may be away, or have lost everything: it is asked, and then it is remembered. What
        it says of who has not the secret is passed over: tokens and bodies would go there.
        """
        async with self._asking:
            now = self._clock.monotonic()
            if now >= self._ask_at:
                with contextlib.suppress(QueueUnavailable):
                    announced = await self._queue.spools()
                    self._announced = {spool for spool, _ in announced}
                    for spool, place in announced:
                        url = self._key.url_in(spool, place)
                        if url is not None:
                            self._known[spool] = (url, now)
                self._ask_at = now + ADDRESS_SECONDS
                self._known = {spool: (url, seen) for spool, (url, seen) in self._known.items()
                               if seen > now - ADDRESSES_KEEP}
        return {spool: url for spool, (url, _) in self._known.items()}

    async def address(self, spool: str) -> str:
        """Where the gateway with `spool` was last. Raises SpoolAway."""
        url = (await self.known()).get(spool)
        if url is None:
            why = ("has another secret: the hosts need the same cluster.secret_file"
                   if spool in self._announced else "has not been heard of")
            raise SpoolAway(f"the gateway that took the upload, with spool {spool[:8]}, {why}")
        return url.rstrip("/")

    async def ask(self, spool: str, verb: str, ask: Ask) -> list[Row]:
        """A row for each job. Raises SpoolAway, BackendError."""
        url, path = await self.address(spool), verb_path(verb)
        body = _encode(msgspec.structs.replace(ask, spool=spool))
        for last in (False, True):
            token = self._token("POST", path, body)
            try:
                reply = await self._link.post(url + path, body, {TOKEN_HEADER: SCHEME + token})
            except SpoolAway as error:
                # A kept connection may have been closed by a gateway that was started again; all
                # verbs can be said twice.
                if last:
                    raise SpoolAway(f"the gateway {url}, which has the upload in its spool, is"
                                    f" away: {error}") from error
                continue
            if reply.status != 200:
                raise _refused(url, reply.status)
            if not self._key.is_sealed(reply.headers.get(SEAL_HEADER, ""), token, reply.body):
                raise SpoolAway(f"what answers at {url} does not know the secret of the cluster")
            break
        return decode_rows(reply.body, len(ask.jobs))

    async def body(self, spool: str, job: str, lease: str, start: int,
                   end: int) -> AsyncIterator[bytes]:
        """Bytes [start, end) of an entry's body, as far as they are there. Raises as `ask`."""
        url, path = await self.address(spool), body_path(job)
        headers = {TOKEN_HEADER: SCHEME + self._token("GET", path, b""), LEASE_HEADER: lease,
                   "Range": f"bytes={start}-{end - 1}"}
        async for chunk in self._link.stream(url + path, headers):
            yield chunk

    def _token(self, method: str, path: str, body: bytes) -> str:
        return self._key.token(self._worker, method, path, body, now=self._clock.now(),
                               nonce=self._random_bytes(8))


def _refused(url: str, status: int) -> BackendError:
    if status in (401, 403):
        return SpoolAway(f"the gateway {url} refuses our token: the hosts need the same"
                         " cluster.secret_file, and clocks that agree")
    if status == 404:
        return SpoolAway(f"the gateway {url} has no cluster.secret_file, and keeps its spool to"
                         " itself")
    if status == 421:
        return SpoolAway(f"the gateway {url} has another spool now than the one that took the"
                         " upload: mount that, or set spool.directory")
    return BackendError(f"the gateway {url} answered {status} about its spool")
