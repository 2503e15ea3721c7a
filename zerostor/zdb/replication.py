"""Master or slave: what this server is, how it becomes the other, and who follows it.

One log, that of the namespace `default`, is copied. Each promotion begins an epoch, written into
the log; of two servers that both think they lead, the one with the higher epoch is right, and the
other refuses writes for good once it hears of it. A promoted server goes on telling its old master
for as long as it runs, and a master asks the slaves it knew before it takes a write.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import count
from pathlib import Path

import msgspec

from zerostor.core.errors import MetadataUnavailable, SetupError
from zerostor.core.replication import Comparison, FollowerState, ReplicationState, Role
from zerostor.core.resp import ReplyError
from zerostor.zdb.feed import Feed
from zerostor.zdb.follower import Follower, state_of
from zerostor.zdb.known_servers import KnownServers
from zerostor.zdb.link import LinkFailed, Peer, known_peers, linked
from zerostor.zdb.positions import EPOCH_TEXT_MAX, Position
from zerostor.zdb.promotion import (
    check_that_none_has_more,
    check_that_none_leads,
    epoch_durable,
    hand_over,
    leader_among,
    states_of,
)
from zerostor.zdb.segments import LogStore
from zerostor.zdb.standing import keep_standing

log = logging.getLogger(__name__)

FENCE_SECONDS = 1.0
"""Between attempts to tell the old master that it is none any more."""
SEEK_TURNS = 10
"""In so many of these a slave that lost its master asks the others once, whether one leads."""
FEEDS_MAX = 32
_BEGINS = "the epoch of this server is being written"


class Replication(KnownServers):
    """What a server is among masters and slaves.

    Made before the log is opened, since a slave's is opened in another way: with `follows`.
    """

    def __init__(self, folder: Path, *, master: Peer | None, listens: str, password: str,
                 hang_up: Callable[[object], None], now: Callable[[], float]) -> None:
        """master: whom the settings tell to follow. listens: this server's URL, or empty.

        password: of this server's admin, which its slaves and masters have too. hang_up: ends all
        connections but one. Raises SetupError.
        """
        super().__init__(folder, listens, password)
        self.feeds: dict[object, Feed] = {}
        self._hang_up = hang_up
        self._now = now
        self._told = str(master or "")
        standing = self._standing
        if standing.follows and self._told == standing.outdated:
            master = next(iter(known_peers([standing.follows], password)), master)
        self._master = master
        # Settings may name the master that this server was promoted over, until someone mends them.
        self._doubtful = master is not None and not standing.follows and (
            str(master) in (standing.led_over, standing.outdated))
        self._seeking: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._turn = asyncio.Lock()

    @property
    def follows(self) -> str:
        """Why the log takes no writes of its own; empty if it does."""
        if self._master is None or self._standing.foreign or self._doubtful:
            return ""
        return f"this is a slave of {self._master}"

    async def start(self, store: LogStore) -> None:
        """Take up the role with the open log, before a request is taken. Raises SetupError."""
        self.store = store
        self._seeking = _task(self._seek())
        if self._master is not None and not self._doubtful:
            self._follow(self._master)
            return
        await self._ask_others()
        self._refuse_if_superseded()
        if store.epoch and not await self._submits():
            self._fence_all()

    async def _submits(self) -> bool:
        """Follow the master that the settings name, if it was promoted over this one since."""
        if not self._doubtful or self._master is None:
            return False
        await self._ask_others(str(self._master))
        if not self._outranked or self._standing.superseded_by != str(self._master):
            log.warning("this server was promoted over %s and leads; the settings that tell it to"
                        " follow that one are out of date", self._master)
            return False
        self._standing.led_over = ""
        keep_standing(self._folder, self._standing)
        self.store.refused = None
        await self.store.follow(f"this is a slave of {self._master}")
        self._follow(self._master)
        return True

    async def close(self) -> None:
        """End all links."""
        if self._seeking is not None:
            self._tasks.append(self._seeking)
        await self._let_go()

    async def _let_go(self) -> None:
        """End the links to those who are followed or told."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def state(self) -> ReplicationState:
        """All of it as a value."""
        store, follower = self.store, self._follower
        aside = store.aside()
        state = ReplicationState(
            Role.MASTER if follower is None else Role.SLAVE, self._standing.server, store.epoch,
            *store.durable, store.next_id, store.entries, gateway=self.gateway,
            refuses=store.refused or "", leader=store.reign[1], term=self.term,
            superseded=self._standing.superseded, successor=self._standing.successor,
            aside_files=len(aside), aside_bytes=sum(aside),
            slaves=[FollowerState(feed.slave, feed.address, feed.behind_bytes,
                                  round(feed.behind_seconds, 3))
                    # Of one that lost its connection unheard and came back, the newer one counts.
                    for feed in {feed.slave: feed for feed in self.feeds.values()}.values()])
        if follower is None:
            standing = self._standing
            if self._outranked:
                return msgspec.structs.replace(
                    state, master=standing.superseded_by, gateway=standing.successor_gateway)
            return state
        return msgspec.structs.replace(
            state, master=str(follower.master), gateway=follower.gateway,
            connected=follower.connected, behind_entries=follower.behind_entries,
            behind_bytes=follower.behind_bytes, behind_seconds=round(follower.behind_seconds, 3),
            compared=follower.compared, problem=follower.problem, differs=follower.differs)

    async def compare(self) -> Comparison:
        """A slave's log against its master's. Raises SetupError, LinkFailed."""
        if self._follower is None:
            raise SetupError("this is no slave: compare at the slave")
        return await self._follower.compare()

    def admit(self, key: object, feed: Feed) -> None:
        """Count a slave in, and remember it. Raises MetadataUnavailable for one too many."""
        if len(self.feeds) >= FEEDS_MAX:
            raise MetadataUnavailable(f"{FEEDS_MAX} slaves follow already")
        self.feeds[key] = feed
        self._learn({feed.slave: feed.address})

    async def promote(self, asker: object) -> ReplicationState:
        """Make this slave the master. Raises SetupError if it leads already, MetadataUnavailable.

        A master that can be reached stops writing first, and its last entries are waited for.
        asker: the connection that asked; all others are ended, since who reserved an id of the
        former master must learn that it may be somebody else's here.
        """
        async with self._turn:
            follower = self._follower
            if follower is None and not self.store.refused:
                raise SetupError("this is the master already")
            if not self.store.log_id:
                raise SetupError("this slave has nothing of its master's log yet: promoted, it"
                                 " would begin another, empty one")
            epoch, handed_over = await self._free_epoch(follower)
            await self._let_go()
            try:
                await self._lead(epoch, follower)
            except (MetadataUnavailable, SetupError):
                if self._follower is not None:
                    self._follow(self._follower.master)
                raise
            self._hang_up(asker)
            try:
                keep_standing(self._folder, self._standing)
            except SetupError as failure:
                raise SetupError(f"this server leads now, epoch {epoch}, but does not know it any"
                                 f" more after a restart: {failure}") from None
        return msgspec.structs.replace(self.state(), handed_over=handed_over)

    async def _free_epoch(self, follower: Follower | None) -> tuple[int, bool]:
        """The epoch to begin, once nobody else leads; whether the master handed over.

        Raises MetadataUnavailable.
        """
        store, standing = self.store, self._standing
        peers = self._others({str(follower.master)} if follower else set())
        others = await states_of(peers, store.log_id)
        check_that_none_leads(others, store.reign)
        least = max(store.epoch, standing.superseded,
                    *(state.newest_reign[0] for _, state in others)) + 1
        if follower is None or follower.foreign:
            return least, False
        epoch = await hand_over(follower, partial(self._words, b"YIELD"), least)
        if epoch is None:
            check_that_none_has_more(others, store)
            log.warning("the old master %s cannot be reached: promoted with what was copied",
                        follower.master)
        return epoch or least, epoch is not None

    async def _lead(self, epoch: int, follower: Follower | None) -> None:
        """Begin the epoch and take writes. Raises MetadataUnavailable, SetupError: as it was."""
        store, standing, refused = self.store, self._standing, self.store.refused
        over = str(follower.master) if follower is not None else ""
        if follower is not None and not follower.foreign:
            await store.lead()
        store.refused = None
        try:
            text = f"after {over}"[:EPOCH_TEXT_MAX]
            store.begin_epoch(epoch, bytes.fromhex(standing.server), text)
            # Nobody else writes before it is known that the epoch has begun.
            store.refused = _BEGINS
            await epoch_durable(store)
        except MetadataUnavailable:
            if store.refused in (None, _BEGINS):
                store.refused = refused
            if follower is not None and not follower.foreign and store.refused == refused:
                await store.follow(refused or "")
            raise
        if store.refused == _BEGINS:
            store.refused = None
        self._follower = None
        standing.led_over = over or standing.led_over
        standing.superseded_by = standing.successor_gateway = ""
        standing.foreign = False
        standing.follows, standing.outdated = "", self._told
        self._fence_all()
        log.warning("this server leads now, epoch %d", epoch)

    async def _seek(self) -> None:
        """Follow who leads instead of this server, or of the master that it hears no more."""
        for turn in count(1):
            follower = self._follower
            lost = follower is not None and (follower.stepped_down or (
                not follower.connected and turn % SEEK_TURNS == 0))
            if (self._outranked or lost) and not self._standing.foreign:
                try:
                    await self._look_for_leader(follower)
                except SetupError as failure:
                    log.error("this server cannot follow who leads yet: %s", failure)
            await asyncio.sleep(FENCE_SECONDS)

    async def _look_for_leader(self, follower: Follower | None) -> None:
        followed = str(follower.master) if follower is not None else ""
        peers = self._others({followed})
        peers += known_peers({self._told} - {followed}, self._password)
        known = max(self.store.reign, self._newest_known)
        leader = await leader_among(peers, self.store, known)
        async with self._turn:
            if leader is not None and self._follower is follower and (
                    follower is None or self._outranked or follower.stepped_down
                    or not follower.connected):
                await self._turn_to(leader)

    async def _turn_to(self, leader: Peer) -> None:
        """Follow it from now on, and after a restart. Raises SetupError."""
        standing = msgspec.structs.replace(
            self._standing, follows=str(leader), outdated=self._told, led_over="")
        keep_standing(self._folder, standing)
        self._standing = standing
        await self._let_go()
        led = self._follower is None
        if led:
            self.store.refused = None
        await self.store.follow(f"this is a slave of {leader}")
        log.warning("this server follows %s from now on", leader)
        self._follow(leader)
        if led:
            # Its slaves find out by coming back, and follow the leader too.
            self._hang_up(None)

    def _follow(self, master: Peer) -> None:
        standing = self._standing
        self._follower = Follower(
            self.store, master, server=standing.server, listens=self._listens,
            foreign=standing.foreign, turned=self._turned, told=self._learn,
            cut=self._cut, now=self._now)
        self._run(self._follower.run())
        self._run(self._follower.compare_regularly())

    async def _cut(self, position: Position) -> None:
        """Put the end of the log aside. Raises MetadataUnavailable, LogRefused, SetupError.

        Who is connected must learn that ids may be somebody else's now, as after a promotion: by
        being disconnected, and by a new term. It changes twice, since some come in the middle.
        """
        self._count_cut()
        await self.store.cut(position)
        self._count_cut()
        self._hang_up(None)

    def _count_cut(self) -> None:
        self._standing.cuts += 1
        keep_standing(self._folder, self._standing)

    @property
    def term(self) -> str:
        """One word that changes whenever ids may become somebody else's."""
        epoch, leader = self.store.reign
        return f"{self.store.log_id.hex()}.{epoch}.{leader}.{self._standing.cuts}"

    def _turned(self) -> None:
        """The master that is followed is no zerostor zdb."""
        self._standing.foreign = True
        keep_standing(self._folder, self._standing)

    def _fence_all(self) -> None:
        """Tell all who may still think that another one leads, for as long as this runs."""
        over = self._standing.led_over
        for peer in [*self._others({over}), *known_peers([over], self._password)]:
            self._run(self._fence(peer))

    async def _fence(self, old: Peer) -> None:
        """Tell it again and again: it may come back from a copy of its disk."""
        told = False
        while True:
            if not any(feed.address == str(old) for feed in self.feeds.values()):
                with contextlib.suppress(LinkFailed):
                    async with linked(old) as link:
                        state = await state_of(link)
                        if state.log != self.store.log_id.hex():
                            raise LinkFailed("another zerostor is there now")
                        reply = await link.call(*self._words(b"SUPERSEDED", link))
                        if not told and not isinstance(reply, ReplyError):
                            log.info("%s knows that this server leads", old)
                            told = True
                        self._heed(old, state)
            await asyncio.sleep(FENCE_SECONDS)

    def _run(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(_task(work))


def _task(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    task = asyncio.ensure_future(work)
    task.add_done_callback(_tell_failure)
    return task


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (failure := task.exception()) is not None:
        log.error("a task of replication ended", exc_info=failure)
