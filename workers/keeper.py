"""Looks after what is stored: one process of all hosts leads, and runs the tasks that keep it well.

A task that fails is logged and begun again, and the others go on meanwhile. Records change by
compare-and-set alone, so a second leader, as while Redis is away from one of them, spoils nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import msgspec

from zerostor.core.errors import QueueUnavailable, ZerostorError
from zerostor.core.reminder import Reminder
from zerostor.keeper_ports import KEEPER, Board
from zerostor.log_ports import Roles
from zerostor.ports import Clock, JobQueue

_log = logging.getLogger(__name__)

LEASE = 6.0
"""Seconds after which another keeper leads, if this one dies."""
PERIOD = 2.0
PAUSE_FIRST, PAUSE_MAX = 1.0, 60.0
"""Seconds until a task that failed is begun again; each time twice as long."""
HEALTHY = 60.0
"""Seconds after which a task that fails counts as if it had never failed before."""
LISTEN_SECONDS = 20.0


class Task(NamedTuple):
    """Something that is done for good. run: until cancelled, and safe to be cut off anywhere.

    hear: takes the commands of this name that come by the board. everywhere: in the keepers that do
    not lead as well.
    """

    name: str
    run: Callable[[], Awaitable[None]]
    hear: Callable[[bytes], Awaitable[None]] | None = None
    everywhere: bool = False


class KeeperState(msgspec.Struct, frozen=True):
    """What the leading keeper says of itself. since: epoch seconds."""

    keeper: str
    since: float


class Keeper:
    """One keeper. name: unique among all processes."""

    def __init__(self, name: str, queue: JobQueue, board: Board, roles: Roles, clock: Clock,
                 tasks: Sequence[Task]) -> None:
        self._name = name
        self._queue = queue
        self._board = board
        self._roles = roles
        self._clock = clock
        self._tasks = tasks
        self._running: list[asyncio.Task[None]] = []
        self._since = 0.0
        self._trouble = Reminder()

    @property
    def leads(self) -> bool:
        """Whether this one runs the tasks that one keeper of all runs."""
        return bool(self._running)

    async def run(self) -> None:
        """Keep until cancelled."""
        everywhere = [asyncio.ensure_future(self._guard(task))
                      for task in self._tasks if task.everywhere]
        try:
            while True:
                await self._turn()
                await self._clock.sleep(PERIOD)
        finally:
            await _end(everywhere)
            await self._stop()

    async def _turn(self) -> None:
        """Take the lead, keep it, or let go of it."""
        try:
            leads = await self._may_lead() and await self._queue.hold(KEEPER, LEASE)
        except ZerostorError as error:
            # Who led goes on: Redis, or the metadata, is away for others as well.
            if self._trouble.due(str(error), self._clock.monotonic()):
                _log.warning("the keeper cannot tell whether it leads: %s", error)
            return
        self._trouble.over()
        if leads and not self._running:
            self._start()
        elif not leads and self._running:
            _log.info("%s does not keep any longer", self._name)
            await self._stop()
        if leads:
            state = msgspec.json.encode(KeeperState(self._name, self._since))
            with contextlib.suppress(QueueUnavailable):
                await self._board.publish(KEEPER, state, LEASE)

    async def _may_lead(self) -> bool:
        """Not where the metadata is a slave's: its records are changed at the master."""
        state = await self._roles.state()
        return state is None or state.writable

    def _start(self) -> None:
        _log.info("%s keeps what is stored", self._name)
        self._since = self._clock.now()
        led = [task for task in self._tasks if not task.everywhere]
        listener = Task("commands", self._listen)
        self._running = [asyncio.ensure_future(self._guard(task)) for task in (*led, listener)]

    async def _stop(self) -> None:
        """End what only a leader runs, and let another lead at once."""
        running, self._running = self._running, []
        if not running:
            return
        await _end(running)
        with contextlib.suppress(QueueUnavailable):
            await self._queue.hold(KEEPER, 0.001)

    async def _guard(self, task: Task) -> None:
        """Run a task for good, whatever becomes of it."""
        pause, told = PAUSE_FIRST, Reminder()
        while True:
            began = self._clock.monotonic()
            try:
                await task.run()
            except ZerostorError as error:
                if told.due(str(error), self._clock.monotonic()):
                    _log.warning("%s: %s", task.name, error)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
                if told.due(repr(error), self._clock.monotonic()):
                    _log.exception("%s failed", task.name)
            if self._clock.monotonic() - began >= HEALTHY:
                pause = PAUSE_FIRST
                told.over()
            await self._clock.sleep(pause)
            pause = min(2 * pause, PAUSE_MAX)

    async def _listen(self) -> None:
        """Hand commands to the tasks they are for."""
        hearers = {task.name: task.hear for task in self._tasks if task.hear is not None}
        while True:
            for name, body in await self._board.commands(LISTEN_SECONDS):
                hear = hearers.get(name)
                if hear is None:
                    _log.warning("nobody here takes the command %r", name[:64])
                    continue
                try:
                    await hear(body)
                except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
                    _log.warning("the command %s was not done: %s", name, error,
                                 exc_info=not isinstance(error, ZerostorError))


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
