"""What happens to nodes, told to whoever watches; a trouble that repeats is told now and then."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator, Callable, Mapping

from zerostor.core.nodes import NodeEvent, NodeEventKind

OFTEN = 6
"""Events of one kind and node that are told within PERIOD; further ones are counted."""
PERIOD = 60.0
ALWAYS = frozenset({NodeEventKind.JOINED, NodeEventKind.LEFT, NodeEventKind.WIPED})
"""Who keeps chunks has to hear of each. How often a node may join is bounded elsewhere."""
KNOWN_MAX = 4096
WAITING_MAX = 4096
"""Events that a watcher may be behind; the oldest go."""


class Teller:
    """now: epoch seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._watchers: set[_Watcher] = set()
        self._counts: collections.Counter[NodeEventKind] = collections.Counter()
        self._told: collections.OrderedDict[tuple[str, NodeEventKind], _Told] = (
            collections.OrderedDict())

    def tell(self, kind: NodeEventKind, node: str, detail: str = "", *, known: bool = True) -> None:
        """It happened. known: False for a name that is nobody's; all those share one limit."""
        now = self._now()
        self._counts[kind] += 1
        more = 0 if kind in ALWAYS else self._count((node if known else "", kind), now)
        if more is None:
            return
        if more:
            detail = f"{detail} (and {more} more like it before)".lstrip()
        event = NodeEvent(now, node, kind, detail)
        for watcher in self._watchers:
            watcher.put(event)

    @property
    def counts(self) -> Mapping[NodeEventKind, int]:
        """What happened since the start, with what was not told."""
        return self._counts

    async def watch(self) -> AsyncIterator[NodeEvent]:
        """Events from the call on."""
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            while True:
                yield await watcher.next_event()
        finally:
            self._watchers.discard(watcher)

    def _count(self, key: tuple[str, NodeEventKind], now: float) -> int | None:
        """How many were kept back before this one; None to keep it back as well."""
        told = self._told.get(key)
        if told is None or not told.since <= now < told.since + PERIOD:
            kept_back = told.kept_back if told else 0
            self._told[key] = _Told(now)
            self._told.move_to_end(key)
            if len(self._told) > KNOWN_MAX:
                self._told.popitem(last=False)
            return kept_back
        told.count += 1
        if told.count > OFTEN:
            told.kept_back += 1
            return None
        return 0


class _Told:
    __slots__ = ("count", "kept_back", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.count = 1
        self.kept_back = 0


class _Watcher:
    def __init__(self) -> None:
        self._events: collections.deque[NodeEvent] = collections.deque(maxlen=WAITING_MAX)
        self._there = asyncio.Event()

    def put(self, event: NodeEvent) -> None:
        self._events.append(event)
        self._there.set()

    async def next_event(self) -> NodeEvent:
        while not self._events:
            self._there.clear()
            await self._there.wait()
        return self._events.popleft()
