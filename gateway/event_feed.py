"""What listeners of GET /api/events wait for: one look at everything, however many listen.

A listener has no buffer: it reads events from the book as it gets them sent, and of what is live
only the newest counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from gateway.services import Services
from zerostor.core.errors import ZerostorError

LOOK_SECONDS = 0.25
"""Between looks for new events, while somebody listens."""
ASK_SECONDS = 10.0
"""For which one of the live things may take to tell how it is."""
_log = logging.getLogger(__name__)


class Source(NamedTuple):
    """Something live. period: seconds between two looks; ask: how it is, as what JSON is made of;
    None: there is none.
    """

    period: float
    ask: Callable[[Services], Awaitable[object]]


class Listener:
    """One who listens. fresh: by name, what is live and was not taken yet."""

    def __init__(self) -> None:
        self.fresh: dict[str, bytes] = {}
        self._called = asyncio.Event()

    def call(self) -> None:
        """There is something new."""
        self._called.set()

    async def wait(self, seconds: float) -> None:
        """Return when called, or after `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._called.wait()
        self._called.clear()


class EventFeed:
    """Looks only while somebody listens. closed: the gateway is about to end."""

    def __init__(self, services: Services, sources: Mapping[str, Source]) -> None:
        self._services = services
        self._sources = sources
        self._listeners: dict[Listener, frozenset[str]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._last: dict[str, bytes] = {}
        self.closed = False

    @property
    def names(self) -> frozenset[str]:
        """Of what is live."""
        return frozenset(self._sources)

    @contextlib.contextmanager
    def listening(self, names: frozenset[str]) -> Iterator[Listener]:
        """A listener, told of events and of what is live in `names`."""
        listener = Listener()
        self._listeners[listener] = names
        listener.fresh = {name: self._last[name] for name in names if name in self._last}
        self._begin("", self._look())
        for name in names:
            self._begin(name, self._follow(name))
        try:
            yield listener
        finally:
            del self._listeners[listener]
            self._end_unheard()

    async def close(self) -> None:
        """Have all who listen end."""
        self.closed = True
        for listener in self._listeners:
            listener.call()

    def _begin(self, name: str, work: Awaitable[None]) -> None:
        task = self._tasks.get(name)
        if task is None or task.done():
            self._tasks[name] = asyncio.ensure_future(work)
        elif asyncio.iscoroutine(work):
            work.close()

    def _end_unheard(self) -> None:
        heard = {"", *(name for names in self._listeners.values() for name in names)}
        for name in [*self._tasks]:
            if name not in heard or not self._listeners:
                self._tasks.pop(name).cancel()
                self._last.pop(name, None)

    async def _look(self) -> None:
        newest = -1
        while True:
            with contextlib.suppress(ZerostorError):
                found = await self._services.events.newest()
                if found != newest:
                    newest = found
                    for listener in self._listeners:
                        listener.call()
            await self._services.clock.sleep(LOOK_SECONDS)

    async def _follow(self, name: str) -> None:
        source = self._sources[name]
        while True:
            body = await _told(name, source, self._services)
            if body is not None and body != self._last.get(name):
                self._last[name] = body
                for listener, names in self._listeners.items():
                    if name in names:
                        listener.fresh[name] = body
                        listener.call()
            await self._services.clock.sleep(source.period)


async def _told(name: str, source: Source, services: Services) -> bytes | None:
    try:
        async with asyncio.timeout(ASK_SECONDS):
            found = await source.ask(services)
        return None if found is None else msgspec.json.encode(found)
    except (ZerostorError, TimeoutError):
        return None
    except Exception:  # noqa: BLE001 - a page that stands still must not end the gateway
        _log.exception("how %s is cannot be told", name)
        return None
