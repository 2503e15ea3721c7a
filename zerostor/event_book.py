"""EventBook in one SQLite file: DATA/events.db, which every process of the host appends to.

What is appended waits in memory, bounded, until a thread has written it down: at once what is worse
than normal, the rest once a second. While the disk is full, or the file cannot be had, it waits
on; what has no room is counted, and told of later.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from zerostor import event_tables
from zerostor.core.errors import BackendError
from zerostor.core.event_settings import EventsSettings
from zerostor.core.events import ALL, Event, EventKind, Severity, Wanted, bounded, merged
from zerostor.core.forecast import Sample
from zerostor.core.reminder import Reminder
from zerostor.event_file import EventFile
from zerostor.event_tables import Keeping, Said
from zerostor.ports import Clock

WAITING_MAX = 2000
"""Events that a process keeps in memory, of each of two sorts."""
LOOK_SECONDS = 0.25
"""Between looks for what other processes appended, while somebody waits for it."""
TICK = 1.0
"""Seconds between writing down what is normal."""
DEFAULT = Keeping()
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


def keeping(events: EventsSettings) -> Keeping:
    """As the settings say."""
    return Keeping(int(events.period * 1000), events.rows, int(events.keep * 1000))


class SqliteEventBook:
    """The file at `path`; made when it is first needed. Run `run` as a task."""

    def __init__(self, path: Path, clock: Clock, keeping: Keeping = DEFAULT) -> None:
        self._clock = clock
        self._keeping = keeping
        self._writes, self._reads = EventFile(path), EventFile(path)
        self._writer = ThreadPoolExecutor(1, "events")
        self._reader = ThreadPoolExecutor(1, "events-read")
        self._mutex = threading.Lock()
        self._urgent: deque[Said] = deque()
        self._normal: dict[object, Event] = {}
        self._lost = 0
        self._scheduled = False
        self._closed = False
        self._due = 0
        self._trouble = Reminder()

    def append(self, event: Event) -> None:
        """See event_ports.EventLog, as for all methods."""
        self._take(Said(event))

    def change(self, topic: str, state: str, event: Event | None) -> None:
        """The state is looked up when it is written."""
        self._take(Said(event, topic[:event_tables.TOPIC_MAX], state))

    async def settle(self) -> bool:
        """Tries once."""
        return await self._run(self._writer, self._write)

    async def since(self, after: int, limit: int, wanted: Wanted = ALL) -> list[Event]:
        """From the file alone."""
        return await self._read(lambda book: event_tables.read(
            book, after, limit, wanted, newest_first=False))

    async def last(self, limit: int, wanted: Wanted = ALL) -> list[Event]:
        """From the file alone."""
        found = await self._read(lambda book: event_tables.read(
            book, 0, limit, wanted, newest_first=True))
        return found[::-1]

    async def newest(self) -> int:
        """From the file alone."""
        return await self._read(event_tables.newest)

    async def changed(self, after: int, wait: float) -> bool:
        """By looking again and again."""
        end = self._clock.monotonic() + wait
        while await self.newest() <= after:
            left = end - self._clock.monotonic()
            if left <= 0:
                return False
            await self._clock.sleep(min(left, LOOK_SECONDS))
        return True

    async def origin(self) -> str:
        """Of this file, as long as it lives."""
        return str(await self._read(lambda book: event_tables.mark(book, "origin")))

    async def hold(self, role: str, who: str, seconds: float, rank: int = 0) -> bool:
        """Times are those of the clock on the wall, which the processes of a host share."""
        now = self._now()
        until = now + int(seconds * 1000)
        return await self._change(lambda book: event_tables.hold(
            book, role, who, rank, now, until))

    async def mark(self, name: str) -> int:
        """From the file."""
        found = await self._read(lambda book: event_tables.mark(book, name))
        return found if isinstance(found, int) else 0

    async def set_mark(self, name: str, value: int) -> None:
        """In the file."""
        await self._change(lambda book: event_tables.set_mark(book, name, value))

    async def adopt(self, events: Sequence[Event]) -> None:
        """In one transaction."""
        now = self._now()

        def adopted(book: sqlite3.Connection) -> None:
            for event in events:
                event_tables.adopt(book, bounded(event), now)
            event_tables.trim(book, now, self._keeping)

        await self._change(adopted)

    async def add_samples(self, samples: Sequence[tuple[str, Sample]], keep: float) -> None:
        """In one transaction."""
        oldest = self._clock.now() - keep
        await self._change(lambda book: event_tables.add_samples(book, samples, oldest))

    async def samples(self) -> dict[str, list[Sample]]:
        """All there are."""
        return await self._read(event_tables.samples)

    async def run(self) -> None:
        """Write down what waits, tell what has waited long enough, until cancelled."""
        while True:
            await self._clock.sleep(TICK)
            if self._normal or self._urgent or (self._due and self._now() >= self._due):
                await self.settle()

    async def close(self) -> None:
        """What cannot be written now is lost."""
        if self._closed:
            return
        await self.settle()
        self._closed = True
        for thread, file in ((self._writer, self._writes), (self._reader, self._reads)):
            await asyncio.get_running_loop().run_in_executor(thread, file.close)
            thread.shutdown(wait=False)

    def _now(self) -> int:
        return int(self._clock.now() * 1000)

    def _take(self, said: Said) -> None:
        event = said.event
        if event is not None:
            event = msgspec.structs.replace(bounded(event), at_ms=event.at_ms or self._now())
            said = said._replace(event=event)
        with self._mutex:
            if self._closed:
                return
            if event is not None and event.severity is Severity.NORMAL and not said.topic:
                self._gather(event)
            elif len(self._urgent) >= WAITING_MAX:
                self._lost += 1
            else:
                self._urgent.append(said)
                if not self._scheduled:
                    self._scheduled = True
                    self._writer.submit(self._write)

    def _gather(self, event: Event) -> None:
        before = self._normal.get(event.key)
        if before is None and len(self._normal) >= WAITING_MAX:
            self._lost += 1
        else:
            self._normal[event.key] = event if before is None else merged(before, event)

    def _write(self) -> bool:
        """Write down all that waits; False if that cannot be done now. In the thread."""
        with self._mutex:
            self._scheduled = False
            urgent, self._urgent = self._urgent, deque()
            normal, self._normal = self._normal, {}
            lost, self._lost = self._lost, 0
        batch = [*urgent, *map(Said, normal.values())]
        if lost:
            batch.append(Said(_lost_events(lost, self._now())))
        try:
            self._due = self._writes.run(lambda book: self._written(book, batch))
        except (sqlite3.Error, OSError) as error:
            self._put_back(urgent, normal, lost)
            if self._trouble.due(str(error), self._clock.monotonic()):
                _log.warning("events cannot be written down: %s; they wait", error)
            return False
        if self._trouble.over():
            _log.info("events are written down again")
        return True

    def _put_back(self, urgent: deque[Said], normal: dict[object, Event], lost: int) -> None:
        with self._mutex:
            self._lost += lost
            later, self._urgent = self._urgent, urgent
            for said in later:
                if len(urgent) < WAITING_MAX:
                    urgent.append(said)
                else:
                    self._lost += 1
            since, self._normal = self._normal, normal
            for event in since.values():
                self._gather(event)

    def _written(self, book: sqlite3.Connection, batch: Sequence[Said]) -> int:
        now = self._now()
        for said in batch:
            event_tables.take(book, said, now, self._keeping)
        event_tables.tell_due(book, now, self._keeping)
        return event_tables.next_due(book)

    async def _read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        return await self._run(self._reader, lambda: self._reads.read(work))

    async def _change(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        return await self._run(self._writer, lambda: self._writes.run(work))

    async def _run(self, thread: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        if self._closed:
            raise BackendError("the book of events is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, work)
        except (sqlite3.Error, OSError) as error:
            raise BackendError(f"the book of events (DATA/events.db): {error}") from error


def _lost_events(count: int, now: int) -> Event:
    return Event(severity=Severity.WARNING, kind=EventKind.EVENTS_LOST, at_ms=now,
                 text=f"{count} events were not kept: they came quicker than they could be written",
                 fields={"events": count})
