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
from pathlib import Path

import msgspec

from zerostor.core.errors import MetadataUnavailable, SetupError
from zerostor.core.replication import Comparison, FollowerState, ReplicationState, Role
from zerostor.core.resp import ReplyError
from zerostor.zdb.feed import Feed
from zerostor.zdb.follower import Follower, state_of
from zerostor.zdb.link import LinkFailed, Peer, linked, parse_peer
from zerostor.zdb.positions import Position
from zerostor.zdb.segments import LogStore
from zerostor.zdb.standing import SLAVES_MAX, keep_standing, load_standing

log = logging.getLogger(__name__)

FENCE_SECONDS = 1.0
"""Between attempts to tell the old master that it is none any more."""
ASK_SECONDS = 2.0
"""How long a starting master waits for what its slaves say."""
HANDOVER_SECONDS = 30.0
"""In which a slave gets the last entries of a master that has stopped writing."""
FEEDS_MAX = 32


class Replication:
    """What a server is among masters and slaves.

    Made before the log is opened, since a slave's is opened in another way: with `follows`.
    """

    store: LogStore

    def __init__(self, folder: Path, *, master: Peer | None, listens: str, password: str,
                 hang_up: Callable[[object], None], now: Callable[[], float]) -> None:
        """master: whom the settings tell to follow. listens: this server's URL, or empty.

        password: of this server's admin, which its slaves and masters have too. hang_up: ends all
        connections but one. Raises SetupError.
        """
        self.feeds: dict[object, Feed] = {}
        self.gateway = ""
        self._folder = folder
        self._standing = load_standing(folder)
        self._listens = listens
        self._password = password
        self._hang_up = hang_up
        self._now = now
        self._master = master
        # Settings may name the master that this server was promoted over, until someone mends them.
        self._doubtful = master is not None and self._standing.led_over == str(master)
        self._follower: Follower | None = None
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
        self.store, standing = store, self._standing
        if self._master is not None and not self._doubtful:
            self._follow(self._master)
            return
        await self._ask_slaves()
        self._refuse_if_superseded()
        if standing.led_over and not await self._submits():
            self._run(self._fence(parse_peer(standing.led_over, self._password)))

    async def _submits(self) -> bool:
        """Follow the master that the settings name, if it was promoted over this one since."""
        if not self._doubtful or self._master is None:
            return False
        await self._ask(str(self._master))
        if self._standing.superseded <= self.store.epoch:
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
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def state(self) -> ReplicationState:
        """All of it as a value."""
        store, follower = self.store, self._follower
        state = ReplicationState(
            Role.MASTER if follower is None else Role.SLAVE, self._standing.server, store.epoch,
            *store.durable, store.next_id, store.entries, gateway=self.gateway,
            refuses=store.refused or "",
            slaves=[FollowerState(feed.slave, feed.address, feed.behind_bytes,
                                  round(feed.behind_seconds, 3)) for feed in self.feeds.values()])
        if follower is None:
            standing = self._standing
            if standing.superseded > store.epoch:
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
        slaves = self._standing.slaves
        if slaves.get(feed.slave) != feed.address:
            slaves.pop(feed.slave, None)
            slaves[feed.slave] = feed.address
            while len(slaves) > SLAVES_MAX:
                del slaves[next(iter(slaves))]
            keep_standing(self._folder, self._standing)

    def supersede(self, epoch: int, successor: str, gateway: str = "") -> None:
        """There is a master of `epoch`: write no more.

        successor: its URL; gateway: where its users upload; both empty where that is not known.

        Raises MetadataUnavailable if this log is of that epoch or later.
        """
        if epoch <= self.store.epoch:
            raise MetadataUnavailable(f"this log is of epoch {self.store.epoch}")
        standing = self._standing
        if epoch > standing.superseded:
            log.warning("superseded by a master of epoch %d %s", epoch, successor)
        known = standing.superseded, standing.superseded_by, standing.successor_gateway
        heard = epoch, successor or standing.superseded_by, gateway or standing.successor_gateway
        if epoch >= standing.superseded and heard != known:
            standing.superseded, standing.superseded_by, standing.successor_gateway = heard
            keep_standing(self._folder, standing)
        if self._follower is None:
            self._refuse_if_superseded()

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
            epoch = max(self.store.epoch, self._standing.superseded) + 1
            if follower is not None and not follower.foreign:
                epoch = await self._hand_over(follower, epoch)
            await self.close()
            try:
                await self._lead(epoch, str(follower.master) if follower else "")
            except (MetadataUnavailable, SetupError):
                if self._follower is not None:
                    self._follow(self._follower.master)
                raise
        self._hang_up(asker)
        return self.state()

    async def _hand_over(self, follower: Follower, epoch: int) -> int:
        """Stop the old master if it lives, and get its last entries; the epoch to begin."""
        try:
            async with linked(follower.master) as link:
                epoch = max(epoch, (await state_of(link)).epoch + 1)
                reply = await link.call(*self._superseding(epoch))
        except LinkFailed as error:
            log.warning("the old master %s cannot be reached (%s): promoted with what was copied",
                        follower.master, error)
            return epoch
        if isinstance(reply, ReplyError):
            raise MetadataUnavailable(f"the old master refuses to step down: {reply}")
        match reply:
            case [int() as number, int() as offset]:
                await self._wait_for(Position(number, offset))
        return epoch

    def _superseding(self, epoch: int) -> tuple[bytes, ...]:
        return (b"LOG", b"SUPERSEDED", b"%d" % epoch, self._listens.encode(), self.gateway.encode())

    async def _wait_for(self, end: Position) -> None:
        try:
            async with asyncio.timeout(HANDOVER_SECONDS):
                while True:
                    if self.store.durable >= end:
                        return
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise MetadataUnavailable(
                "the old master has stopped writing, but this slave does not get its last entries"
                " within 30 s: promote again once it has, or stop the old master first") from None

    async def _lead(self, epoch: int, over: str) -> None:
        if self._follower is not None and not self._follower.foreign:
            await self.store.lead()
        else:
            self.store.refused = None
        self._follower = None
        self.store.begin_epoch(epoch, bytes.fromhex(self._standing.server), f"after {over}")
        await self._durable()
        standing = self._standing
        standing.led_over = over or standing.led_over
        standing.superseded_by = standing.successor_gateway = ""
        standing.foreign = False
        keep_standing(self._folder, standing)
        log.warning("this server leads now, epoch %d", epoch)
        if standing.led_over:
            self._run(self._fence(parse_peer(standing.led_over, self._password)))

    async def _durable(self) -> None:
        batch = self.store.newest
        if batch is not None and not batch.done:
            done = asyncio.Event()
            batch.waiters.append(done.set)
            await done.wait()
            if batch.error is not None:
                raise MetadataUnavailable(f"the epoch cannot be written: {batch.error}")

    def _follow(self, master: Peer) -> None:
        standing = self._standing
        self._follower = Follower(
            self.store, master, server=standing.server, listens=self._listens,
            foreign=standing.foreign, turned=self._turned, now=self._now)
        self._run(self._follower.run())
        self._run(self._follower.compare_regularly())

    def _turned(self) -> None:
        """The master that is followed is no zerostor zdb."""
        self._standing.foreign = True
        keep_standing(self._folder, self._standing)

    def _refuse_if_superseded(self) -> None:
        standing = self._standing
        if standing.superseded > self.store.epoch:
            where = f" at {standing.superseded_by}" if standing.superseded_by else ""
            self.store.refused = (f"another server{where} was promoted (epoch"
                                  f" {standing.superseded}); follow it with --slave-of")

    async def _ask_slaves(self) -> None:
        """Whether one of those that followed is the master by now."""
        asked = [self._ask(url) for url in self._standing.slaves.values() if url]
        await asyncio.gather(*asked)

    async def _ask(self, url: str) -> None:
        with contextlib.suppress(LinkFailed, TimeoutError, SetupError):
            async with asyncio.timeout(ASK_SECONDS):
                async with linked(parse_peer(url, self._password)) as link:
                    state = await state_of(link)
            if state.epoch > self.store.epoch:
                self.supersede(state.epoch, url)

    async def _fence(self, old: Peer) -> None:
        """Tell the old master, again and again: it may come back from a copy of its disk."""
        told = False
        while True:
            with contextlib.suppress(LinkFailed):
                async with linked(old) as link:
                    reply = await link.call(*self._superseding(self.store.epoch))
                    if not told and not isinstance(reply, ReplyError):
                        log.info("the old master %s knows that it is none any more", old)
                        told = True
                    theirs = await state_of(link)
                if theirs.epoch > self.store.epoch:
                    self.supersede(theirs.epoch, str(old))
            await asyncio.sleep(FENCE_SECONDS)

    def _run(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.ensure_future(work))
