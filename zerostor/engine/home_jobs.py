"""From a home into the store: what was asked for, or what stores itself, becomes a spool entry.

    asked       the job is in the book, durably, before anybody hears its id
    packing     a file as it is, a folder as tar.gz, into the spool under that id
    sealed      it is an upload like any other now: queue, worker, record
    ended       its link is written down, its files are removed if that was wished, the book ends it

Each step may be the last of a process, and is done again by the next one: a job that is in the
book and not in the spool is packed anew. Users take turns, so one who asks for much keeps nobody
waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections import deque
from collections.abc import Coroutine

from zerostor.core.errors import (
    BackendError,
    BadRequest,
    Busy,
    HomeChanged,
    NotFound,
    QueueUnavailable,
    RequestError,
    SetupError,
    ZerostorError,
)
from zerostor.core.homes import PATH_MAX, HomeJob, shown, within
from zerostor.core.jobs import JobState, JobUpdate
from zerostor.core.limits import JOB_ID_SIZE, JOB_TRIES
from zerostor.engine.home_endings import HomeEndings
from zerostor.engine.home_packing import HomePacking
from zerostor.engine.homes import Homes
from zerostor.engine.own_thread import Place, Places, on_own_thread
from zerostor.home_ports import HomeBook, Seen
from zerostor.ports import Clock, JobQueue, RandomBytes, Spool

_log = logging.getLogger(__name__)

PACKERS = 8
"""Files and folders read at a time; a folder keeps one core busy with gzip. 2 to 4 MiB each."""
HUNG = 64
"""Besides these, of homes whose disk hangs."""
PACKERS_EACH = 4
"""Of all these for one user."""
ASKED_MAX = 256
"""Jobs of one user that have not ended, apart from those that began by themselves."""
WAIT_DELAY = 5.0
"""Seconds until a job that waits for room or the like is tried again."""
LOOK_EVERY = 10.0
"""Seconds between looks at sealed jobs, for ends that nobody told us."""


class HomeJobs:
    """The jobs of all homes. Run `run` as a task; `load` first."""

    def __init__(self, homes: Homes, book: HomeBook, spool: Spool, queue: JobQueue, clock: Clock,
                 random_bytes: RandomBytes, packing: HomePacking, endings: HomeEndings) -> None:
        self._homes = homes
        self._book = book
        self._spool = spool
        self._queue = queue
        self._clock = clock
        self._random_bytes = random_bytes
        self._packing = packing
        self._endings = endings
        self._jobs: dict[str, HomeJob] = {}
        self._updates: dict[str, JobUpdate] = {}
        self._autos = 0
        self._tries: dict[str, int] = {}
        self._versions: dict[str, Seen] = {}
        self._sealed: set[str] = set()
        self._stored: dict[str, JobUpdate] = {}
        self._turns: dict[str, deque[HomeJob]] = {}
        self._at_work: dict[str, int] = {}
        self._places = Places(PACKERS, HUNG)
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Take up what had not ended. Raises BackendError."""
        for job in await self._book.jobs():
            self._remember(job)
            if job.link:
                self._stored[job.job] = JobUpdate(job.job, JobState.DONE, job.link, 1.0)
            self._start(self._resume(job))

    async def ask(self, user: str, path: bytes, *, remove: bool) -> str:
        """Queue a job; its id once it is durable. Raises UnknownHome, NotFound, BadRequest, Busy.
        """
        path = normal_path(path)
        home = self._homes.require(user)
        await self._look_at(user, path)
        if sum(job.user == user and not job.auto for job in self._jobs.values()) >= ASKED_MAX:
            raise Busy(f"{ASKED_MAX} jobs of {home.user} have not ended; ask again in a moment")
        return await self._begin(HomeJob(
            self._random_bytes(JOB_ID_SIZE).hex(), user, path, remove, self._clock.now()))

    async def begin_auto(self, user: str, seen: Seen, *, remove: bool) -> str:
        """Queue a file that is to be stored by itself, in the version that was seen."""
        job = self._random_bytes(JOB_ID_SIZE).hex()
        self._versions[job] = seen
        return await self._begin(
            HomeJob(job, user, seen.path, remove, self._clock.now(), auto=True))

    def count(self, user: str) -> int:
        """Jobs of the user that have not ended."""
        return sum(job.user == user for job in self._jobs.values())

    def under_way(self, user: str) -> set[bytes]:
        """Paths of files of the user that are being stored by themselves."""
        return {job.path for job in self._jobs.values() if job.user == user and job.auto}

    def auto_count(self) -> int:
        """How many are, of all users."""
        return self._autos

    async def status(self, job: str) -> JobUpdate | None:
        """What is known of a job of a home; None if it is none."""
        return self._updates.get(job) or await self._book.ended(job)

    async def run(self) -> None:
        """Work until cancelled."""
        for work in (self._watch(), self._look(), self._pack_in_turn()):
            self._start(work)
        try:
            await asyncio.Event().wait()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # In.

    async def _begin(self, job: HomeJob) -> str:
        self._remember(job)
        try:
            await self._book.begin_job(job)
        except BaseException:
            self._forget(job)
            raise
        await self._tell(job, JobState.ACTIVE, "")
        self._enqueue(job)
        return job.job

    async def _look_at(self, user: str, path: bytes) -> None:
        try:
            await on_own_thread(self._homes.folder(user).stat, path)
        except OSError as error:
            raise explained(error, user, path) from error

    async def _resume(self, job: HomeJob) -> None:
        """Go on where the process before ended."""
        while True:
            try:
                await self._spool.discard(job.job)
                known = self._stored.get(job.job) or await self._spool.status(job.job)
                break
            except (ZerostorError, OSError) as error:
                await self._tell(job, JobState.WAITING, _reason(error))
                await self._clock.sleep(WAIT_DELAY)
        if known is None:
            self._enqueue(job)
        else:
            self._sealed.add(job.job)
            await self._ask_again(job)

    def _enqueue(self, job: HomeJob) -> None:
        self._turns.setdefault(job.user, deque()).append(job)
        self._changed.set()

    # Packing.

    async def _pack_in_turn(self) -> None:
        while True:
            while (user := self._next()) is None:
                self._changed.clear()
                await self._changed.wait()
            place = await self._places.take()
            job = self._turns[user].popleft()
            # To the end of the line.
            if left := self._turns.pop(user):
                self._turns[user] = left
            self._at_work[user] = self._at_work.get(user, 0) + 1
            self._start(self._pack_at(place, job))

    def _next(self) -> str | None:
        """The user who has waited longest for a turn."""
        return next((user for user in self._turns
                     if self._at_work.get(user, 0) < PACKERS_EACH), None)

    async def _pack_at(self, place: Place, job: HomeJob) -> None:
        try:
            await self._try(job, place)
        finally:
            place.leave()
            self._at_work[job.user] -= 1
            if not self._at_work[job.user]:
                del self._at_work[job.user]
            self._changed.set()

    async def _try(self, job: HomeJob, place: Place) -> None:
        """Pack it, or decide what the failure means."""
        try:
            if job.auto and job.job not in self._versions:
                raise HomeChanged("a process before began it; which version it had is not known")
            await self._pack(job, place)
        except HomeChanged as error:
            await (self._drop(job, error) if job.auto else self._again(job, error))
        except (BackendError, SetupError) as error:
            # Room, a disk, the book: nothing that the job could help.
            await self._later(job, WAIT_DELAY, str(error))
        except ZerostorError as error:
            await self._fail(job, str(error))
        except OSError as error:
            reason = explained(error, job.user, job.path)
            if isinstance(reason, RequestError):
                await self._fail(job, str(reason))
            else:
                await self._again(job, error)
        except Exception as error:  # noqa: BLE001 - every failure must end in a verdict
            _log.exception("job %s cannot be packed", job.job)
            await self._again(job, error)

    async def _drop(self, job: HomeJob, error: HomeChanged) -> None:
        """What began by itself is looked at again, and begins anew once it is finished."""
        try:
            await self._book.drop_job(job.job)
        except ZerostorError as failure:
            await self._later(job, WAIT_DELAY, str(failure))
            return
        self._forget(job)
        await self._queue.note(JobUpdate(job.job, JobState.ERROR, str(error)))

    async def _again(self, job: HomeJob, error: Exception) -> None:
        tries = self._tries[job.job] = self._tries.get(job.job, 0) + 1
        if tries < JOB_TRIES:
            await self._later(job, 2.0 ** tries, _reason(error))
            return
        reason = f"{_reason(error)}, {tries} times; process it when nobody writes to it" if (
            isinstance(error, HomeChanged)) else _reason(error)
        await self._fail(job, reason)

    async def _later(self, job: HomeJob, delay: float, reason: str) -> None:
        async def wait() -> None:
            await self._clock.sleep(delay)
            self._enqueue(job)

        await self._tell(job, JobState.WAITING, reason)
        self._start(wait())

    async def _pack(self, job: HomeJob, place: Place) -> None:
        async def told(read: int) -> None:
            await self._tell(job, JobState.ACTIVE, f"packing, {read} bytes read")

        await self._packing.pack(job, place, told, self._versions.get(job.job))
        self._sealed.add(job.job)
        await self._tell(job, JobState.ACTIVE, "")
        with contextlib.suppress(QueueUnavailable, SetupError):
            # The spool is the truth; the gateway's reconciler queues it when Redis is back.
            await self._queue.add([job.job], spool=self._spool.id)

    # Out.

    async def _watch(self) -> None:
        """Ends as the queue tells them."""
        async for update in self._queue.watch():
            job = self._jobs.get(update.job)
            if job is None or job.job not in self._sealed:
                continue
            if update.state.final:
                self._start(self._end(job, update))
            else:
                self._updates[job.job] = update

    async def _look(self) -> None:
        """Ends that nobody told us, because Redis or we were away."""
        while True:
            await self._clock.sleep(LOOK_EVERY)
            for name in list(self._sealed):
                job = self._jobs.get(name)
                if job is not None:
                    await self._ask_again(job)

    async def _ask_again(self, job: HomeJob) -> None:
        stored = self._stored.get(job.job)
        if stored is not None:
            await self._end(job, stored)
            return
        known = False
        for ask in (self._queue.status, self._spool.status):
            try:
                update = await ask(job.job)
            except (ZerostorError, OSError):
                known = True
                continue
            if update is not None and update.state.final:
                await self._end(job, update)
                return
            # The queue may remember what is nowhere any more; the spool is the truth.
            known = known or (update is not None and ask == self._spool.status)
        if not known and job.job in self._sealed:
            _log.warning("job %s is gone from the spool: it is packed again", job.job)
            self._sealed.discard(job.job)
            self._enqueue(job)

    async def _end(self, job: HomeJob, update: JobUpdate) -> None:
        if job.job not in self._sealed:
            return
        self._sealed.discard(job.job)
        try:
            if update.state is JobState.DONE:
                self._stored[job.job] = update
                await self._endings.stored(job, update.detail)
            else:
                await self._endings.failed(job, update.detail, self._versions.get(job.job))
        except (ZerostorError, OSError) as error:
            # The book or the disk of the homes; `_look` comes back to it.
            _log.warning("the end of job %s is not written down yet: %s", job.job, error)
            self._sealed.add(job.job)
            return
        self._forget(job)

    async def _fail(self, job: HomeJob, reason: str) -> None:
        try:
            await self._endings.failed(job, reason, self._versions.get(job.job))
        except ZerostorError as error:
            await self._later(job, WAIT_DELAY, str(error))
            return
        self._forget(job)
        await self._queue.note(JobUpdate(job.job, JobState.ERROR, reason))

    # What is known.

    def _remember(self, job: HomeJob) -> None:
        self._autos += job.auto
        self._jobs[job.job] = job
        self._updates[job.job] = JobUpdate(job.job, JobState.ACTIVE)

    def _forget(self, job: HomeJob) -> None:
        self._sealed.discard(job.job)
        self._stored.pop(job.job, None)
        if self._jobs.pop(job.job, None) is not None:
            self._autos -= job.auto
        self._updates.pop(job.job, None)
        self._tries.pop(job.job, None)
        self._versions.pop(job.job, None)

    async def _tell(self, job: HomeJob, state: JobState, detail: str) -> None:
        update = self._updates[job.job] = JobUpdate(job.job, state, detail)
        await self._queue.note(update)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.critical("a task of the homes failed; restart it", exc_info=task.exception())


def normal_path(text: bytes) -> bytes:
    """A path as people write it, / in front, without . and //. Raises BadRequest."""
    if b".." in text.split(b"/") or b"\0" in text or len(text) > PATH_MAX:
        raise BadRequest("a path within the home, as /photos/cat.jpg; .. is not followed")
    return within(text)


def explained(error: OSError, user: str, path: bytes) -> ZerostorError:
    """What the disk said of a path that somebody asked for."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(f"there is no {shown(path)} in the home of {user}")
    if error.errno in (errno.EACCES, errno.ELOOP, errno.EPERM, errno.EINVAL):
        return BadRequest(f"{shown(path)} is no file or folder that can be read")
    if error.errno == errno.ENAMETOOLONG:
        return BadRequest(f"{shown(path)[:80]}... has a name that is too long")
    return BackendError(f"{shown(path)} cannot be read: {error.strerror}")


def _reason(error: Exception) -> str:
    if isinstance(error, ZerostorError):
        return str(error)
    if isinstance(error, OSError):
        return f"it cannot be read: {error.strerror or error}"
    return "it cannot be packed; the log of the SSH process says why"
