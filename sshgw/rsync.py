"""rsync at this end of a client's transfer: started confined, fed, bounded, and surely ended.

The streams are carried by loops of our own; what the client sends is held back while the home is
counted. See `confined` for the program in between, `growth` for the limit of a home.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import re
import socket
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from sshgw import confining, wildcards
from sshgw.confinement import Confinement
from sshgw.growth import Growth
from sshgw.streams import Streams
from sshgw.visit import Visit
from zerostor.core import rsync_arguments
from zerostor.core.errors import Busy, NotAllowed, ZerostorError
from zerostor.core.homes import Home, HomeUsage, Quota
from zerostor.core.limits import HOME_ENTRIES_MAX, RSYNC_RUNS, RSYNC_USER_RUNS
from zerostor.engine.own_thread import on_own_thread
from zerostor.home_ports import HomeFolder, Seen
from zerostor.ports import Clock

CHUNK = 256 * 1024
"""Most bytes carried at once, and held per direction of a run."""
REFUSED = 1
"""Exit status for what may not be run; rsync's own for a usage error."""
SPARE = 1024 * 1024
"""A file may be larger than the home by this: who counts is to notice first, and says more."""
FULL = 11
"""Exit status where the home is full; rsync's own for an error in file I/O."""
ORDERLY = (0, 23, 24, 25)
"""Exit statuses of rsync that went on to its end, though some files may be missing."""
TICK = 1.0
"""Seconds by which the times of files may be behind the clock, and more."""
ANSWER = 5.0
"""Seconds that the program between has to say what was written, before the last word counts."""
GRACE = 10.0
"""Seconds in which the program between must end once its socket has."""
NO_LINKS = (b"zerostor: a home holds no links; all else arrived. --no-links leaves them out,"
            b" --copy-links sends what they lead to\n")
_LINK_REFUSED = re.compile(rb'symlink "[^"\n]*" -> "[^"\n]*" failed: Operation not permitted')
"""What rsync itself says of a link, and an error of permissions explains nothing."""
_log = logging.getLogger(__name__)
Outside = Callable[[str, bool], contextlib.AbstractAsyncContextManager[object]]


@contextlib.asynccontextmanager
async def _unnoticed(_user: str, _leaves_halves: bool) -> AsyncIterator[None]:
    yield


class RsyncRuns:
    """All of this process.

    find: a home as it is now. removed: told, on any thread, what of which user went to make room.
    outside: entered with a user while a program writes to the home, and with whether that leaves
    halves of files when it breaks off.
    """

    def __init__(self, confinement: Confinement, clock: Clock, find: Callable[[str], Home | None],
                 removed: Callable[[str, Sequence[Seen]], None],
                 outside: Outside = _unnoticed) -> None:
        self._outside = outside
        self._confinement = confinement
        self._clock = clock
        self._find = find
        self._removed = removed
        self._users: dict[str, int] = {}
        self._growths: dict[str, Growth] = {}

    async def serve(self, command: str, visit: Visit, client: Streams) -> int:
        """Do what `command` says in the home of who visits; the exit status."""
        try:
            async with self._slot(visit.user):
                return await self._run(command, visit.user, visit.folder, client)
        except ZerostorError as error:
            await client.write_error(f"zerostor: {error}\n".encode(errors="replace"))
            return REFUSED

    @contextlib.asynccontextmanager
    async def _slot(self, user: str) -> AsyncIterator[None]:
        used = self._users.get(user, 0)
        if used >= RSYNC_USER_RUNS or sum(self._users.values()) >= RSYNC_RUNS:
            raise Busy("too many rsync transfers are running; try again in a moment")
        self._users[user] = used + 1
        try:
            yield
        finally:
            self._users[user] -= 1
            if not self._users[user]:
                del self._users[user]

    async def _run(self, line: str, user: str, folder: HomeFolder, client: Streams) -> int:
        if not self._confinement.way:
            raise NotAllowed(self._confinement.reason)
        await on_own_thread(folder.stat, b"/")  # it is made again if it was taken away
        root = self._confinement.root(folder.root)
        command = rsync_arguments.parse(line, root)
        paths = await on_own_thread(wildcards.expand, folder, command.paths)
        access = "change" if not command.sender else "remove" if command.removes else "read"
        ours, its = socket.socketpair()
        with its:
            child = await asyncio.create_subprocess_exec(
                *self._confinement.command(folder.root, access, folder.usage.limit + SPARE,
                                           its.fileno(), command.arguments(paths)),
                pass_fds=(its.fileno(),), env=confining.ENVIRONMENT, limit=CHUNK, cwd="/",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE, start_new_session=True,
            )
        run = Run(user, client, child, *await asyncio.open_unix_connection(sock=ours))
        if access == "read":
            return await run.carry()
        status, began_ns = REFUSED, int((self._clock.now() - TICK) * 1e9)
        async with self._outside(user, command.leaves_halves):
            try:
                async with self._growing(user, folder, run):
                    status = await run.carry()
            finally:
                if status not in ORDERLY and command.leaves_halves:
                    await on_own_thread(folder.left_since, began_ns)
        return status

    @contextlib.asynccontextmanager
    async def _growing(self, user: str, folder: HomeFolder, run: Run) -> AsyncIterator[None]:
        """The home knows of the run from its beginning to its end."""
        growth = self._growths.get(user) or Growth(
            folder, self._clock, lambda: self._drops(user), lambda went: self._went(user, went)
        )
        self._growths[user] = run.growth = growth
        try:
            await growth.join(run)
            yield
        finally:
            await run.end()
            await growth.leave(run)
            if not growth.runs and self._growths.get(user) is growth:
                del self._growths[user]

    def _drops(self, user: str) -> bool:
        home = self._find(user)
        return home is not None and home.quota is Quota.DROP_OLDEST

    def _went(self, user: str, went: Sequence[Seen]) -> None:
        if went:
            self._removed(user, went)


class Run:
    """One transfer. received: bytes of the client that were passed on. growth: of its home."""

    def __init__(self, user: str, client: Streams, child: asyncio.subprocess.Process,
                 heard: asyncio.StreamReader, told: asyncio.StreamWriter) -> None:
        self.received = 0
        self.growth: Growth | None = None
        self._user = user
        self._client = client
        self._child = child
        self._heard = heard
        self._told = told
        self._written = 0
        self._may_receive: int | None = None
        self._answers: list[asyncio.Future[int]] = []
        self._sentence = ""
        self._links = False
        self._over = False
        self._carrying_in: asyncio.Task[None] | None = None
        self._listening = asyncio.create_task(self._listen())

    # What its home asks of it.

    def has_open(self) -> set[int]:
        """As Growing; nothing where the system has no /proc."""
        found: set[int] = set()
        for process in filter(str.isdigit, _listed("/proc")):
            with contextlib.suppress(OSError):
                if os.getsid(int(process)) == self._child.pid:
                    folder = f"/proc/{process}/fd"
                    found |= {os.stat(f"{folder}/{name}").st_ino for name in os.listdir(folder)}
        return found

    @property
    def waiting(self) -> int:
        """As Growing."""
        stream = self._child.stdin
        assert stream is not None
        queued = stream.transport.get_write_buffer_size()
        if queued or stream.transport.is_closing():
            return queued
        pipe = stream.get_extra_info("pipe")
        with contextlib.suppress(OSError, AttributeError):  # a system that does not tell
            count = fcntl.ioctl(pipe.fileno(), termios.TIOCOUTQ, bytes(4))
            return int.from_bytes(count, sys.byteorder)
        return 0

    async def written(self) -> int:
        """As Growing."""
        if self._over:
            return self._written
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self._told.write(b"say\n")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER):
                await answer
        return self._written

    def grant(self, written: int, received: int) -> None:
        """As Growing."""
        self._may_receive = received
        self._told.write(b"budget %d\n" % written)

    def refuse(self, usage: HomeUsage) -> None:
        """As Growing."""
        self._sentence = (f"the home of {self._user} is full: {usage.used:,} of {usage.limit:,}"
                          " bytes are used" if usage.used > usage.limit else
                          f"a home has at most {HOME_ENTRIES_MAX:,} files and folders")
        self._told.write(b"full\n")

    # Its life.

    async def carry(self) -> int:
        """Carry the streams until rsync has ended; its exit status, as a shell would tell it."""
        output, errors = self._child.stdout, self._child.stderr
        assert output is not None
        assert errors is not None
        self._carrying_in = asyncio.create_task(self._inward())
        try:
            async with asyncio.TaskGroup() as outward:
                outward.create_task(_outward(output, self._write))
                outward.create_task(_outward(errors, self._write_error))
            status = await self._child.wait()
        finally:
            await self.end()
        if self._sentence:
            await self._client.write_error(f"zerostor: {self._sentence}\n".encode())
            return FULL
        if self._links:
            await self._client.write_error(NO_LINKS)
        return status if status >= 0 else 128 - status

    async def _write(self, chunk: bytes) -> None:
        self._notice_links(chunk)
        await self._client.write(chunk)

    async def _write_error(self, chunk: bytes) -> None:
        self._notice_links(chunk)
        await self._client.write_error(chunk)

    def _notice_links(self, said: bytes) -> None:
        # An rsync that sends may say anything: these are bytes of files.
        if self.growth is not None and _LINK_REFUSED.search(said):
            self._links = True

    async def end(self) -> None:
        """Return once no process of it is left."""
        self._told.close()
        self._stop_carrying_in()
        try:
            async with asyncio.timeout(GRACE):
                await self._child.wait()
        except TimeoutError:
            _log.error("rsync of process %d did not end, it is killed", self._child.pid)
            self._child.kill()
            await self._child.wait()

    def _stop_carrying_in(self) -> None:
        if self._carrying_in is not None:
            self._carrying_in.cancel()
        if self._child.stdin is not None:  # a task cancelled before it began closes nothing
            self._child.stdin.close()

    async def _inward(self) -> None:
        """From the client to rsync, as far as the home has room."""
        stream = self._child.stdin
        assert stream is not None
        try:
            while not self._over and (chunk := await self._client.read()):
                while chunk:
                    piece = chunk[: await self._room(len(chunk))]
                    self.received += len(piece)
                    stream.write(piece)
                    await stream.drain()
                    chunk = chunk[len(piece) :]
        except OSError:  # rsync takes no more: it has ended, and its status says why
            return
        finally:
            stream.close()

    async def _room(self, wanted: int) -> int:
        """How many bytes may be passed on, at least one."""
        while self._may_receive is not None and self._may_receive <= self.received:
            if not await self._ask():
                await asyncio.Event().wait()  # rsync is on its way out
        return wanted if self._may_receive is None else min(wanted, self._may_receive
                                                            - self.received)

    async def _ask(self) -> bool:
        """Have the home counted; whether there is room."""
        if self._sentence or self.growth is None:
            return False
        try:
            await self.growth.settle(self)
        except OSError as error:
            self._sentence = f"the home cannot be counted: {error.strerror or error}"
            self._told.close()
        return not self._sentence

    async def _listen(self) -> None:
        """What the program between says."""
        async with asyncio.TaskGroup() as asks:
            try:
                while line := await self._heard.readline():
                    word, _, value = line.partition(b" ")
                    self._written = int(value)
                    if word == b"at":
                        self._answer(1)
                    else:
                        asks.create_task(self._ask())
            except OSError:  # as at its end
                _log.debug("the program beside rsync broke off", exc_info=True)
            finally:
                self._over = True
                self._answer(len(self._answers))
                # The program between is gone, and nobody holds rsync to the limit any more.
                self._stop_carrying_in()

    def _answer(self, number: int) -> None:
        for answer in self._answers[:number]:
            if not answer.done():
                answer.set_result(self._written)
        del self._answers[:number]


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


async def _outward(source: asyncio.StreamReader,
                   write: Callable[[bytes], Awaitable[None]]) -> None:
    while chunk := await source.read(CHUNK):
        await write(chunk)
