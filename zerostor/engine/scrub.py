"""The scrub: passes over all records, soft ones every few hours, and hard ones that read each byte.

What is wrong is asked to be repaired. A pass is a place in the row of ids: cut off anywhere it goes
on from there, here or at the keeper of another host. After each soft pass the stores are asked what
they have, see engine/orphans.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from zerostor.core.errors import BackendError, QueueUnavailable, RecordCorrupt
from zerostor.core.events import Event, EventKind, Severity
from zerostor.core.record import decode_record
from zerostor.core.scrub import (
    HARD_EVERY,
    NAME,
    SHOWN_KEEP,
    SOFT_EVERY,
    STATE,
    STATE_KEEP,
    Action,
    Mode,
    ScrubPass,
    ScrubState,
    decode_command,
    decode_state,
    encode,
    shown,
)
from zerostor.engine.catalog import Holder, holder_of
from zerostor.engine.check import Checker, Report, ShardState
from zerostor.engine.orphans import Orphans
from zerostor.engine.pool import StorePool
from zerostor.engine.scrub_pace import Pace
from zerostor.event_ports import EventLog
from zerostor.keeper_ports import Board, Named, RepairAsk, ScrubBook
from zerostor.log_ports import Roles
from zerostor.ports import Clock, MetadataStore

_log = logging.getLogger(__name__)

SOFT_SETS, HARD_SETS, HARD_BYTES = 256, 8, 32 * 1024 * 1024
"""Stripe sets that are looked at between two rests, and bytes of shards."""
RECORDS_AT_ONCE = 4096
IDLE_SECONDS = 5.0
"""Between looks whether a pass is due."""
SAVE_SECONDS = 5.0
HEAR_SECONDS = 20.0
"""For a command to wait until the scrub runs."""
RATE_OVER = 30.0


class _Found(NamedTuple):
    holder: Holder
    stored: bytes


class Scrub:
    """One of a keeper. every: seconds in which each byte is read at the latest; 0: never by itself.
    """

    def __init__(self, metadata: MetadataStore, roles: Roles, stores: StorePool, checker: Checker,
                 board: Board, events: EventLog, open_book: Callable[[], ScrubBook], pace: Pace,
                 orphans: Orphans, clock: Clock, every: float) -> None:
        self.state = ScrubState()
        self._metadata = metadata
        self._roles = roles
        self._stores = stores
        self._checker = checker
        self._board = board
        self._events = events
        self._open_book = open_book
        self._pace = pace
        self._orphans = orphans
        self._clock = clock
        self._every = every
        self._saved = float("-inf")
        self._rated = clock.monotonic(), 0
        self._woken = asyncio.Event()
        self._readable: dict[str, str] | None = None
        self._loaded = asyncio.Event()

    async def run(self) -> None:
        """Scrub until cancelled."""
        book = self._open_book()
        try:
            await self._load(book)
            self._loaded.set()
            while True:
                mode = self._next()
                if mode is None:
                    await self._save(book)
                    await self._sleep(IDLE_SECONDS)
                    continue
                await self._work(book, mode)
        finally:
            self._loaded.clear()
            with contextlib.suppress(BackendError):
                await asyncio.shield(book.keep_state(encode(self.state)))
            await book.close()

    async def hear(self, body: bytes) -> None:
        """Do what one is told. Raises BadRequest, BackendError."""
        command = decode_command(body)
        try:
            # What was said to a state that is then loaded would be lost.
            async with asyncio.timeout(HEAR_SECONDS):
                await self._loaded.wait()
        except TimeoutError:
            raise BackendError("the scrub does not run") from None
        state = self.state
        if command.action is Action.PAUSE:
            state.paused = True
        elif command.action is Action.RESUME:
            state.paused = False
        elif command.action is Action.START:
            state.paused = False
            mode = command.mode or Mode.HARD
            self._ask(mode)
        elif command.action is Action.STOP:
            for mode in [command.mode] if command.mode else list(state.passes):
                stopped = state.passes.pop(mode, None)
                if stopped is not None:
                    stopped.ended, stopped.stopped = self._clock.now(), True
                    state.last[mode] = stopped
        else:
            self._orphans.asked, state.paused = True, False
            self._ask(Mode.SOFT)
        self._saved = float("-inf")
        self._woken.set()

    def _ask(self, mode: Mode) -> None:
        under_way = self.state.passes.setdefault(mode, ScrubPass(mode, self._clock.now()))
        under_way.asked = True

    # What is due.

    def _next(self) -> Mode | None:
        """What to go on with: a soft pass is short, and goes first."""
        state = self.state
        if state.paused:
            return None
        if self._every and self._came_back():
            # What it has may be old, or it was begun anew.
            state.passes.pop(Mode.SOFT, None)
            self._ask(Mode.SOFT)
        for mode, every in ((Mode.SOFT, SOFT_EVERY), (Mode.HARD, min(HARD_EVERY, self._every))):
            if mode in state.passes or (self._every and self._is_due(mode, every)):
                return mode
        return None

    def _came_back(self) -> bool:
        """Whether a store can be read that could not the last time, or was begun anew."""
        before, stores = self._readable, self._stores
        self._readable = {name: store.identity for name in stores.names
                          if (store := stores.readable(name)) is not None}
        return before is not None and any(
            name not in before or before[name] not in ("", identity)
            for name, identity in self._readable.items())

    def _is_due(self, mode: Mode, every: float) -> bool:
        last = self.state.last.get(mode)
        # A clock that was set back must not keep us waiting for years.
        return last is None or not last.begun <= self._clock.now() < last.begun + every

    async def _begin(self, book: ScrubBook, begun: ScrubPass) -> None:
        begun.term = await self._metadata.term()
        role = await self._roles.state()
        if role is not None:
            begun.last_id, begun.record_count = role.next_id, role.records
        if begun.mode is Mode.SOFT:
            await book.begin_names()

    # Work.

    async def _work(self, book: ScrubBook, mode: Mode) -> None:
        """Some of a pass, and the rest after it."""
        under_way = self.state.passes.setdefault(mode, ScrubPass(mode, self._clock.now()))
        if not under_way.next_id:
            await self._begin(book, under_way)
        began, before = self._clock.monotonic(), under_way.size
        found, over = await self._read(under_way)
        if mode is Mode.SOFT:
            stripes = [each.holder.stripes for each in found]
            await book.add_names([Named(each.key, each.stores) for each in stripes])
        await self._look_at(under_way, found)
        if under_way.ended:
            return
        if over:
            await self._end(book, under_way)
        await self._save(book)
        size = under_way.size - before if mode is Mode.HARD else 0
        rest = await self._pace.rest(self._clock.monotonic() - began, size, asked=under_way.asked,
                                     late=self._behind(under_way, self._every))
        if not over and not under_way.asked and not self._behind(under_way, HARD_EVERY):
            rest = max(rest, IDLE_SECONDS)
        self.state.held_back = self._pace.held_back
        if rest > 0:
            await self._sleep(rest)

    def _behind(self, under_way: ScrubPass, seconds: float) -> bool:
        """Whether less is done than should be by now to end `seconds` after the beginning."""
        if under_way.mode is Mode.SOFT or not under_way.last_id:
            return True
        gone = self._clock.now() - under_way.begun
        return under_way.progress < gone / max(1.0, min(seconds, self._every or seconds))

    async def _read(self, under_way: ScrubPass) -> tuple[list[_Found], bool]:
        """The next stripe sets in the row of ids; whether these are the last ones."""
        found: list[_Found] = []
        most, size, looked = SOFT_SETS if under_way.mode is Mode.SOFT else HARD_SETS, 0, 0
        rows = self._metadata.scan(under_way.next_id)
        async with contextlib.aclosing(rows):  # type: ignore[type-var]
            async for metadata_id, stored in rows:
                looked += 1
                under_way.records += 1
                under_way.next_id = metadata_id + 1
                holder = None
                try:
                    holder = holder_of(metadata_id, decode_record(stored))
                except RecordCorrupt as error:
                    under_way.unknown += 1
                    _log.error("record %d: %s", metadata_id, error)
                if holder is not None:
                    found.append(_Found(holder, stored))
                    size += _size(holder)
                if len(found) >= most or looked >= RECORDS_AT_ONCE or (
                        under_way.mode is Mode.HARD and size >= HARD_BYTES):
                    return found, False
        return found, True

    async def _look_at(self, under_way: ScrubPass, found: Sequence[_Found]) -> None:
        holders = [each.holder for each in found]
        if under_way.mode is Mode.SOFT:
            reports = await self._checker.check_many(holders) if holders else []
        else:
            reports = await asyncio.gather(*map(self._checker.check_hard, holders))
        asks = []
        for each, report in zip(found, reports, strict=True):
            under_way.sets += 1
            under_way.size += _size(each.holder)
            if report.state != "healthy" and await self._is_as_it_was(each):
                asks += self._judge(under_way, each.holder, report)
        if asks:
            under_way.repairs += len(asks)
            await self._board.ask(asks)

    async def _is_as_it_was(self, found: _Found) -> bool:
        """Whether nobody moved or removed it while it was looked at."""
        try:
            return await self._metadata.get(found.holder.metadata_id) == found.stored
        except BackendError:
            return False

    def _judge(self, under_way: ScrubPass, holder: Holder, report: Report) -> list[RepairAsk]:
        """What follows from a stripe set that is not healthy."""
        worst, lost = "", False
        for shard, fault in report.faults.items():
            store = report.stripes.stores[shard]
            if fault.state is ShardState.UNKNOWN:
                under_way.away += 1
                lost |= not self._stores.known(store) or store in self._stores.lost
                continue
            if fault.state is ShardState.CORRUPT:
                under_way.corrupt += 1
                self._events.append(Event(
                    severity=Severity.WARNING, kind=EventKind.CORRUPTION_FOUND, subject=store,
                    text=f"a shard of record {holder.metadata_id} on store {store} is damaged:"
                         f" {fault.detail}",
                    fields={"metadata_id": holder.metadata_id, "shard": shard}))
            else:
                under_way.missing += 1
            worst = worst or f"scrub: {fault.state.value} on {store or 'no store'}"
        if report.state == "unreadable":
            under_way.unreadable += 1
            worst = worst or "scrub: cannot be read"
        if not worst and not lost:
            return []
        return [RepairAsk(holder.metadata_id, report.spare, worst or "scrub: its store is lost")]

    async def _end(self, book: ScrubBook, under_way: ScrubPass) -> None:
        if under_way.mode is Mode.SOFT:
            await self._orphans.look(book, under_way, self.state)
        under_way.ended = self._clock.now()
        self.state.passes.pop(under_way.mode, None)
        self.state.last[under_way.mode] = under_way
        self._saved = float("-inf")
        wrong = under_way.missing + under_way.corrupt + under_way.unreadable + under_way.unknown
        if under_way.mode is Mode.HARD or under_way.asked or wrong:
            self._events.append(Event(
                severity=Severity.WARNING if wrong else Severity.NORMAL,
                kind=EventKind.SCRUB_FINISHED, subject=under_way.mode.value,
                text=_told(under_way), fields=_fields(under_way)))
        _log.info("%s", _told(under_way))

    # What is kept and told.

    async def _load(self, book: ScrubBook) -> None:
        """Where this host was, or a later one: what comes twice is looked at twice."""
        kept = [decode_state(await book.state())]
        with contextlib.suppress(QueueUnavailable):
            kept.append(decode_state(await self._board.published(STATE)))
        own = kept[0]
        self.state = max(kept, key=lambda state: state.updated)
        soft = self.state.passes.get(Mode.SOFT)
        mine = own.passes.get(Mode.SOFT)
        if soft is not None and (mine is None or mine.begun != soft.begun
                                 or mine.next_id != soft.next_id):
            # What it named is in another host's book, or not in ours.
            self.state.passes[Mode.SOFT] = ScrubPass(Mode.SOFT, soft.begun, soft.asked,
                                                     last_id=soft.last_id, term=soft.term,
                                                     record_count=soft.record_count)

    async def _save(self, book: ScrubBook) -> None:
        now = self._clock.monotonic()
        if now < self._saved + SAVE_SECONDS:
            return
        self._saved = now
        state = self.state
        state.updated = self._clock.now()
        self._estimate(now)
        stored = encode(state)
        await book.keep_state(stored)
        with contextlib.suppress(QueueUnavailable):
            await self._board.publish(STATE, stored, STATE_KEEP)
            await self._board.publish(NAME, encode(shown(state)), SHOWN_KEEP)

    def _estimate(self, now: float) -> None:
        """When the hard pass ends, and how fast it is."""
        state, hard = self.state, self.state.passes.get(Mode.HARD)
        if hard is None:
            state.rate = state.estimate = 0.0
            self._rated = now, 0
            return
        at, size = self._rated
        if now - at >= RATE_OVER or hard.size < size or not state.rate:
            state.rate = round(max(0, hard.size - size) / max(now - at, 0.001), 1)
            self._rated = now, hard.size
        gone, progress = state.updated - hard.begun, hard.progress
        soon = hard.begun + gone / progress if progress else 0.0
        planned = 0.0 if hard.asked else hard.begun + min(HARD_EVERY, self._every or HARD_EVERY)
        state.estimate = round(max(soon, planned), 1) if soon else planned

    async def _sleep(self, seconds: float) -> None:
        """Or until one is told something."""
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        woken = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait((sleeping, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            woken.cancel()
        self._woken.clear()


def _size(holder: Holder) -> int:
    """Bytes of its shards."""
    return holder.stripes.layout.shard_size * sum(map(bool, holder.stripes.stores))


def _told(ended: ScrubPass) -> str:
    wrong = f"{ended.missing} shards missing, {ended.corrupt} damaged"
    more = f", {ended.unreadable} stripe sets unreadable" if ended.unreadable else ""
    more += f", {ended.unknown} records damaged" if ended.unknown else ""
    return f"a {ended.mode.value} scrub looked at {ended.sets} stripe sets: {wrong}{more}"


def _fields(ended: ScrubPass) -> dict[str, int | float | str | bool]:
    names = ("records", "sets", "size", "missing", "corrupt", "away", "unreadable", "unknown",
             "repairs")
    plain = msgspec.to_builtins(ended)
    return {name: plain[name] for name in names}
