"""The slave's side of replication: keeps a log equal to its master's, byte for byte.

Each session compares first: the last file of this log must be what the master has there. Then the
master sends what it has beyond that. What is wrong with a link ends the session, and another one
begins where the log ends. A tail that a newer master never had is put aside, never dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import msgspec

from zerostor.core.errors import MetadataUnavailable, SetupError
from zerostor.core.limits import MIB
from zerostor.core.msgpack import UNDECODABLE
from zerostor.core.replication import Comparison, ReplicationState, Role
from zerostor.core.resp import Reply, ReplyError
from zerostor.zdb.comparison import compare, gaps_of, shared_part
from zerostor.zdb.feed import distance
from zerostor.zdb.foreign import Foreign, check_foreign, compare_foreign
from zerostor.zdb.lag import Lag
from zerostor.zdb.link import Link, LinkFailed, Peer, linked
from zerostor.zdb.positions import Position
from zerostor.zdb.segments import LogStore
from zerostor.zdb.shipping import LogRefused

log = logging.getLogger(__name__)

BACK_OFF = 0.1
BACK_OFF_MAX = 2.0
"""Seconds between attempts to reach the master."""
SILENCE = 10.0
"""Seconds without a word after which the master is taken for gone; it speaks every second."""
CONGESTION_PAUSE = 0.01
NEAR = 8 * MIB
"""Bytes that are quickly had, so that a master may stop writing for them."""
COMPARE_SECONDS = 600.0
"""Between comparisons of the whole log with the master's."""


class Diverged(MetadataUnavailable):
    """This log and the master's do not go together; a person must decide."""


class Follower:
    """Follows `master`; run `run` as a task. The attributes say how far it is.

    problem: why it does not follow now, empty while it does. gateway: URL of the master's.
    compared: when the whole log was last compared, seconds since the epoch; differs: how.
    stepped_down: whether the master has become a slave since it was followed.
    """

    def __init__(self, store: LogStore, master: Peer, *, server: str, listens: str, foreign: bool,
                 turned: Callable[[], None], told: Callable[[dict[str, str]], None],
                 cut: Callable[[Position], Awaitable[None]], now: Callable[[], float]) -> None:
        """server: our id, listens: where others reach us; both are told to the master.

        foreign: the master is a 0-db that is not ours, as `turned` was called to tell at another
        start; then the log is opened as one that takes writes. told: called with URLs by id of the
        other servers that the master knows. cut: puts aside what is behind a position.
        """
        self.store = store
        self.master = master
        self.connected = False
        self.stepped_down = self._led = False
        self.problem = "not connected yet"
        self.gateway = ""
        self.compared = 0.0
        self.differs = ""
        self.foreign = foreign
        self._turned = turned
        self._told = told
        self._cut = cut
        self._server = server
        self._listens = listens
        self._now = now
        self._had_all = now()
        self._lag = Lag()
        self._news = asyncio.Event()
        self._tip: Position | None = None
        self._their_next_id = 0
        self._unsent, self._received = 0, Position(0, 0)

    @property
    def behind_seconds(self) -> float:
        """Since this log had all that the master was known to have, or since the start.

        0 while it has; under load, the age of the oldest bytes that are still on their way.
        """
        if self.connected and not self.foreign and self._has_all():
            return 0.0
        return max(0.0, self._now() - self._had_all)

    @property
    def behind_bytes(self) -> int:
        """What the master had more when it was heard last."""
        return self._unsent + distance(self.store, self.store.durable, self._received)

    @property
    def behind_entries(self) -> int:
        """Ids that the master had given out beyond ours when it was heard last."""
        return max(0, self._their_next_id - self.store.next_id)

    def _has_all(self) -> bool:
        return self._tip is not None and self.store.durable >= self._tip

    @property
    def nearly_level(self) -> bool:
        """Whether it follows, with less than NEAR bytes to go."""
        return self.connected and self._tip is not None and self.behind_bytes <= NEAR

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            await self._run()
        except Exception as error:
            # A mistake of ours must not look like a slave that is level.
            self._say(f"it is followed no more until a restart: {error!r}")
            raise
        finally:
            self.connected = False

    async def _run(self) -> None:
        pause, loop = BACK_OFF, asyncio.get_running_loop()
        while True:
            before, began = self.store.durable, loop.time()
            try:
                async with linked(self.master) as link:
                    if link.facts.ours:
                        await self._begin(link)
                        await self._follow(link)
                    else:
                        await self._copy_foreign(link)
            except (MetadataUnavailable, LogRefused, SetupError, OSError) as error:
                self._say(str(error))
            self.connected = False
            # Each session begins with digests of a file: one that got nowhere is not begun at once.
            if self.store.durable != before or loop.time() - began > SILENCE:
                pause = BACK_OFF
            await asyncio.sleep(pause)
            pause = min(2 * pause, BACK_OFF_MAX)

    async def compare(self) -> Comparison:
        """Hold the log against the master's now. Raises LinkFailed."""
        try:
            async with linked(self.master) as link:
                found = await (compare_foreign if self.foreign else compare)(self.store, link)
        except LinkFailed as failure:
            raise type(failure)(f"the master {self.master}: {failure}") from None
        self.compared, self.differs = self._now(), found.differs
        if found.differs:
            log.error("this log is not that of %s: %s", self.master, found.differs)
        return found

    async def compare_regularly(self) -> None:
        """Compare every COMPARE_SECONDS until cancelled."""
        while True:
            await asyncio.sleep(COMPARE_SECONDS)
            # A file may be cut or go while it is read: the next time tells.
            with contextlib.suppress(LinkFailed, OSError):
                await self.compare()

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("metadata of %s: %s", self.master, problem)
        self.problem = problem

    async def _copy_foreign(self, link: Link) -> None:
        """Follow a 0-db that is not ours. Raises LinkFailed, Diverged."""
        store, reason = self.store, f"this is a slave of {self.master}"
        if not self.foreign:
            if store.log_id:
                raise Diverged("it is no zerostor zdb, and this log is a copy of one: give this"
                               " slave an empty metadata folder to begin anew")
            await check_foreign(link)
            await store.lead()
            self.foreign = True
            self._turned()
        store.refused = store.refused or reason

        def told() -> None:
            self.connected, self.problem, self._had_all = True, "", self._now()
            self._their_next_id = store.next_id

        await Foreign(store, link, reason, told).run()

    async def _begin(self, link: Link) -> None:
        """Agree with the master on where to go on. Raises Diverged, LinkFailed."""
        store, theirs = self.store, await state_of(link)
        log_id = await link.ask(b"LOG", b"ID")
        if store.log_id and log_id != store.log_id:
            raise Diverged("it has another log; a slave follows one log for life: give this one an"
                           " empty metadata folder to begin anew")
        self.gateway = theirs.gateway or self.gateway
        self._led = self._led or theirs.role is Role.MASTER
        self.stepped_down = self._led and theirs.role is Role.SLAVE
        if theirs.reign < store.reign:
            epoch, leader = store.reign
            await link.call(b"LOG", b"SUPERSEDED", b"%d" % epoch, b"", b"", leader.encode())
            raise Diverged(f"it is of epoch {theirs.epoch} and this log of {epoch}"
                           f"{' too, of another server' if theirs.epoch == epoch else ''}: another"
                           " was promoted; follow that one, or promote this one")
        if store.first_damage is not None:
            log.error("this log is damaged; all from there on is fetched again")
            await self._cut(store.first_damage)
        if store.log_id:
            await self._agree(link, theirs)
        store.expect_gaps(await gaps_of(link))
        # A log that has nothing yet does not know the number of the first file.
        start = Position(max(0, store.received.number), store.received.offset)
        await link.ask(b"LOG", b"FOLLOW", self._server.encode(),
                       link.announced(self._listens), b"%d" % start.number, b"%d" % start.offset)
        self.connected, self._tip, self.problem, self._lag = True, None, "", Lag()
        self._unsent, self._received = 0, start
        log.info("following %s from file %d, byte %d", self.master, *start)

    async def _agree(self, link: Link, theirs: ReplicationState) -> None:
        """Put aside what the master does not have. Raises Diverged if it should have it."""
        store, next_id = self.store, self.store.next_id
        shared = await shared_part(store, link)
        if not shared.offset:
            # Whoever leads has what led there: digests that nobody else can tell.
            raise Diverged("it has nothing of this log that is here, so nothing is put aside for"
                           " it: if it is the right one all the same, give this one an empty"
                           " metadata folder")
        if shared >= store.durable:
            return
        if theirs.reign == store.reign:
            raise Diverged(
                f"it differs from this log from file {shared.number}, byte {shared.offset} on, and"
                " both are of the same epoch: one of the two is damaged, or was put back from a"
                " copy. If this one is right, stop that one and promote this; else give this one an"
                " empty metadata folder")
        log.error("what this server wrote from file %d, byte %d on was never copied to the new"
                  " master; it is kept in files aside-*", *shared)
        await self._cut(shared)
        if store.next_id < next_id:
            log.error("ids %d to %d were put aside, and are given anew: who has links with them"
                      " must upload again", store.next_id, next_id - 1)

    async def _follow(self, link: Link) -> None:
        unsubscribe = self.store.subscribe(self._grown)
        confirming = asyncio.ensure_future(self._confirm(link))
        try:
            while not confirming.done():
                await self._take(await link.receive(SILENCE))
        finally:
            unsubscribe()
            confirming.cancel()
            with contextlib.suppress(asyncio.CancelledError, LinkFailed):
                await confirming

    async def _take(self, message: Reply) -> None:
        match message:
            case [b"log", int() as number, int() as offset, bytes() as chunk]:
                await self._room()
                self.store.append_log(number, offset, chunk)
            case [b"tip", int() as number, int() as offset, int() as next_id, int() as unsent,
                  bytes() as gateway]:
                self._tip, self._their_next_id = Position(number, offset), next_id
                self._unsent, self._received = unsent, self.store.received
                self.gateway = gateway.decode("utf-8", "replace") or self.gateway
                self._lag.grew(self._tip, self._now())
                self._grown()
            case [b"others", bytes() as stored]:
                self._told(_decoded_others(stored))
            case ReplyError():
                raise LinkFailed(f"it ended the stream: {message}")
            case _:
                raise LinkFailed("it sends something that is no part of a log")

    async def _room(self) -> None:
        """Let the disk catch up with the link."""
        while True:
            if not self.store.congested:
                return
            await asyncio.sleep(CONGESTION_PAUSE)

    def _grown(self) -> None:
        """The log grew here, or there."""
        at = self._lag.reached(self.store.durable)
        if at is not None:
            self._had_all = max(self._had_all, at)
        if self._has_all():
            self._had_all = self._now()
        self._news.set()

    async def _confirm(self, link: Link) -> None:
        """Tell the master what is on the disk here, and so that this side lives."""
        while True:
            await self._news.wait()
            self._news.clear()
            number, offset = self.store.durable
            # Before the first file there is none of that number.
            await link.send(b"LOG", b"ACK", b"%d" % max(0, number), b"%d" % offset)


def _decoded_others(stored: bytes) -> dict[str, str]:
    try:
        return msgspec.json.decode(stored, type=dict[str, str])
    except UNDECODABLE as error:
        raise LinkFailed(f"it tells of other servers strangely: {error}") from None


async def state_of(link: Link) -> ReplicationState:
    """What the other server tells of itself. Raises LinkFailed."""
    reply = await link.ask(b"LOG", b"STATE")
    try:
        return msgspec.json.decode(reply if isinstance(reply, bytes) else b"",
                                   type=ReplicationState)
    except UNDECODABLE as error:
        raise LinkFailed(f"it answers LOG STATE with something else: {error}") from None
