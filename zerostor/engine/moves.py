"""Shards on their way from store to store: draining stores are emptied, unequal ones evened out.

A pass counts what all records name, then moves what should move: the shard is copied and verified,
durable at its new place, the record replaced by compare-and-set, and only then the old one deleted.
What a keeper that died left half-done is done again by the next pass, or is an orphan.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping

import msgspec

from zerostor.core.errors import BackendError
from zerostor.core.moves import DrainState, EvenState, MovesState, StoreCount, encode_moves
from zerostor.core.record import Record, StripeSet, stripes_of
from zerostor.core.roll import Roll
from zerostor.engine.census import Census, Holdings, VolumeShards, policy_named
from zerostor.engine.evening import Evening
from zerostor.engine.mover import Choose, Move, Mover
from zerostor.engine.pool import Policy, StorePool, policy_for
from zerostor.keeper_ports import Board
from zerostor.ports import Clock, MetadataStore
from zerostor.store_ports import StoreRoll

BOARD_NAME = "moves"
LOOK_SECONDS = 1.0
"""How often it is looked whether something is to be done."""
COUNT_SECONDS = 3600.0
"""How old the count of what lies where may be."""
AGAIN_SECONDS, AGAIN_MAX = 5.0, 60.0
"""Between passes over a store that drains; longer while nothing can be moved."""
TELL_SECONDS = 3.0
TOLD_SECONDS = 3600.0
AT_ONCE = 2
"""Records, or volumes, that are being moved at a time."""
VOLUME_CLOSED_MS = 2 * 3600 * 1000
"""Nothing is appended to a volume whose youngest pack is older."""


class Moves:
    """Empties and evens out stores, for the keeper that leads.

    settle: seconds after which all processes know that a store drains, so that nothing new is
    written there. rate: bytes a second, 0 for no limit.
    """

    def __init__(self, stores: StorePool, metadata: MetadataStore, policies: Mapping[str, Policy],
                 roll: StoreRoll, board: Board, clock: Clock, *, settle: float = 10.0,
                 rate: int = 0, emptied: Callable[[str], None] = lambda _: None) -> None:
        """emptied: told when a store that drains is found empty."""
        self._stores = stores
        self._metadata = metadata
        self._policies = policies
        self._roll = roll
        self._board = board
        self._clock = clock
        self._settle = settle
        self._emptied = emptied
        self._mover = Mover(stores, metadata, board, clock, self, rate)
        self._even: Evening | None = None
        self._done = 0
        self.state = MovesState()

    async def run(self) -> None:
        """Until cancelled."""
        telling = asyncio.ensure_future(self._keep_telling())
        try:
            await self._pass_again_and_again()
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _pass_again_and_again(self) -> None:
        passed, again, seen = float("-inf"), AGAIN_SECONDS, Roll()
        while True:
            roll = self._roll.roll
            # One that is empty may be named again by an upload that began long ago.
            busy = _uneven(roll) or any(not self._drain(name).empty for name in roll.draining)
            due = passed + (again if busy else COUNT_SECONDS) <= self._clock.monotonic()
            if due or roll != seen:
                before, changed, seen = self._done, roll != seen, roll
                await self._pass(roll)
                idle = self._done == before and not changed
                again = min(2 * again, AGAIN_MAX) if idle else AGAIN_SECONDS
                passed = self._clock.monotonic()
            await self._clock.sleep(LOOK_SECONDS)

    async def _keep_telling(self) -> None:
        while True:
            await self._clock.sleep(TELL_SECONDS)
            await self._mover.delete_old()
            await self._tell()

    # A pass.

    async def _pass(self, roll: Roll) -> None:
        draining = {name for name in roll.draining if self._stores.known(name)}
        began_ms = int(self._clock.now() * 1000)
        census = Census(draining)
        await census.take(self._metadata)
        self._note(census, draining)
        settled = {name for name in draining if self._is_settled(roll, name, began_ms)}
        empty = {name for name in settled if not census.left[name]}
        news = {name for name in empty if not self._drain(name).empty}
        for name in draining:
            held = census.stores.get(name, Holdings())
            self._change(name, empty=name in empty, shards=held.shards, bytes=held.bytes,
                         waiting=0, rebuilding=0, problem="")
        await self._tell()
        await self._move_all(census, self._drained_shards,
                             lambda volume: self._is_closed(volume, settled))
        await self._part_with(news, roll)
        if _uneven(roll):
            await self._even_out(census, roll)

    def _note(self, census: Census, draining: set[str]) -> None:
        counts = {name: StoreCount(held.shards, held.bytes)
                  for name, held in census.stores.items()}
        ours = [name for name in counts if self._stores.known(name)]
        self.state = MovesState(
            self._clock.now(), {name: counts[name] for name in ours},
            {name: count for name, count in counts.items() if name not in ours},
            census.unwritten, {name: self._drain(name) for name in draining}, self.state.even,
            tuple(sorted(self._stores.lost)))

    def _is_settled(self, roll: Roll, name: str, at_ms: int) -> bool:
        entry = roll.of(name)
        return entry is not None and at_ms - entry.at_ms >= self._settle * 1000

    def _is_closed(self, volume: VolumeShards, settled: set[str]) -> bool:
        """Whether nobody appends to it. Writers let go of one with a store that drains."""
        age = self._clock.now() * 1000 - volume.youngest
        return age >= VOLUME_CLOSED_MS or (
            age >= self._settle * 1000 and settled >= self._stores.draining)

    async def _part_with(self, empty: set[str], roll: Roll) -> None:
        """Stores that were found empty are told of; those that were to leave then, leave."""
        for name in empty:
            entry = roll.of(name)
            self._emptied(name)
            if entry is not None and entry.leaves:
                await self._roll.say(msgspec.structs.replace(
                    entry, draining=False, removed=True, at_ms=int(self._clock.now() * 1000)))

    async def _move_all(self, census: Census, choose: Choose,
                        closed: Callable[[VolumeShards], bool]) -> None:
        def works() -> Iterator[Awaitable[None]]:
            for metadata_id in census.singles:
                yield self._mover.move_single(metadata_id, choose)
            for volume in census.volumes.values():
                if closed(volume):
                    yield self._mover.move_volume(volume, choose)
                else:
                    self._wait_for(volume)

        async def work() -> None:
            for each in waiting:
                await each

        waiting = works()
        workers = [asyncio.ensure_future(work()) for _ in range(AT_ONCE)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    # What goes where.

    def _drained_shards(self, record: Record) -> list[Move]:
        stripes = stripes_of(record)
        if stripes is None:
            return []
        indices = [index for index, name in enumerate(stripes.stores)
                   if name in self._stores.draining]
        entries = [self._roll.roll.of(stripes.stores[index]) for index in indices]
        preferred = {entry.into for entry in entries if entry is not None and entry.into}
        policy = policy_for(self._policies, stripes, policy_named(record))
        targets = self._stores.place_missing(policy, stripes.stores, indices, preferred)
        moves = [Move(index, stripes.stores[index], target)
                 for index, target in zip(indices, targets, strict=True)]
        for move in moves:
            if not move.target:
                self.problem(move.source, "no other store may take its shards: add one, or bring"
                             " back those that are down or full")
        return [move for move in moves if move.target]

    # Evening out.

    async def _even_out(self, census: Census, roll: Roll) -> None:
        """Move from the fullest to the emptiest, until they are alike or nothing can move."""
        even = self._even = Evening(self._stores, census.stores)
        self._show_even(EvenState(
            running=not even.done, bytes=even.excess, moved=self.state.even.moved,
            moved_bytes=self.state.even.moved_bytes, spread=even.spread))
        await self._tell()
        try:
            if not even.done:
                found = Census(even.donors)
                await found.take(self._metadata)
                await self._move_all(
                    found, lambda record: self._evened_shards(even, record),
                    lambda volume: (self._clock.now() * 1000 - volume.youngest
                                    >= VOLUME_CLOSED_MS))
        finally:
            self._even = None
        self._show_even(EvenState(
            running=even.moving, bytes=even.excess, moved=self.state.even.moved + even.shards,
            moved_bytes=self.state.even.moved_bytes + even.bytes, spread=even.spread))
        if not even.moving:
            await self._roll.change(lambda before: msgspec.structs.replace(
                before, evened_ms=max(before.evened_ms, roll.even_ms)))

    def _show_even(self, even: EvenState) -> None:
        self.state = msgspec.structs.replace(self.state, even=even)

    def _evened_shards(self, even: Evening, record: Record) -> list[Move]:
        stripes = stripes_of(record)
        if stripes is None:
            return []
        donors = [index for index, name in enumerate(stripes.stores) if even.gives(name)]
        if not donors:
            return []
        index = max(donors, key=lambda index: even.above(stripes.stores[index]))
        target = self._evened_target(even, record, stripes, index)
        return [Move(index, stripes.stores[index], target)] if target else []

    def _evened_target(self, even: Evening, record: Record, stripes: StripeSet, index: int) -> str:
        """One that has too little, and where no more is lost together than before; else ""."""
        policy = policy_for(self._policies, stripes, policy_named(record))
        (target,) = self._stores.place_missing(policy, stripes.stores, [index], even.receivers)
        if target not in even.receivers or not self._stores.no_worse(stripes.stores, index, target):
            return ""
        even.plan(stripes.stores[index], target, stripes.layout.shard_size)
        return target

    # What is told.

    def moved(self, move: Move, records: int, size: int) -> None:
        """As mover.Notes."""
        self._done += 1
        if self._even is not None:
            self._even.shards += 1
            self._even.bytes += size
        before = self._drain(move.source)
        self._change(move.source, shards=max(0, before.shards - records),
                     bytes=max(0, before.bytes - size), moved=before.moved + records,
                     moved_bytes=before.moved_bytes + size)

    def unreadable(self, source: str) -> None:
        """As mover.Notes."""
        self._change(source, rebuilding=self._drain(source).rebuilding + 1)

    def problem(self, source: str, text: str) -> None:
        """As mover.Notes."""
        self._change(source, problem=text)

    def _drain(self, name: str) -> DrainState:
        return self.state.draining.get(name, DrainState())

    def _change(self, name: str, **changes: object) -> None:
        if name in self.state.draining:
            self.state.draining[name] = msgspec.structs.replace(self._drain(name), **changes)

    def _wait_for(self, volume: VolumeShards) -> None:
        for name in self.state.draining:
            self._change(name, waiting=self._drain(name).waiting + len(volume.ids))

    async def _tell(self) -> None:
        speed = self._mover.speed * AT_ONCE
        for name, drain in list(self.state.draining.items()):
            self._change(name, eta=drain.bytes / speed if speed else 0.0)
        with contextlib.suppress(BackendError):
            await self._board.publish(BOARD_NAME, encode_moves(self.state), TOLD_SECONDS)


def _uneven(roll: Roll) -> bool:
    return roll.even_ms > roll.evened_ms
