"""Several metadata servers, a master and its slaves, and which of them counts now.

All are asked all the time, so that a promotion, or the end of one, is known within seconds and no
call waits for a server that is gone. The highest epoch that anyone told of is remembered: a master
of an earlier one, that was cut off and comes back, is not written to again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from zerostor.core.errors import MetadataUnavailable, SetupError, ZerostorError
from zerostor.core.reminder import Reminder
from zerostor.core.replication import ReplicationState, Role
from zerostor.log_ports import Roles
from zerostor.ports import Clock

log = logging.getLogger(__name__)

PERIOD = 0.5
"""Seconds between questions to each server."""
ANSWER_SECONDS = 3.0
"""Seconds without an answer after which a server counts as gone."""
PATIENCE = 0.3
"""Seconds for which a server that refuses connections is tried, before it counts as gone."""
SETTLE_SECONDS = 2.0
"""How long a call that failed waits for another server to be chosen."""
_FOREIGN = ReplicationState(Role.MASTER, "", 0, 0, 0, 0, 0)
"""A 0-db that is not ours knows no slaves, and takes writes."""


class Choice(NamedTuple):
    """reader: URL of the server to read from. writer: of the one to write to, empty if none leads.

    problem: why none leads. state: of the reader; None if none answers. other_logs: some of the
    servers have a log of their own, so nobody knows which one is meant.
    """

    reader: str = ""
    writer: str = ""
    problem: str = ""
    state: ReplicationState | None = None
    other_logs: bool = False

    def check(self, where: str) -> str:
        """`where`, one of the two URLs. Raises MetadataUnavailable, SetupError if it is empty."""
        if self.other_logs:
            raise SetupError(self.problem)
        if not where:
            raise MetadataUnavailable(self.problem)
        return where


class _Server:
    """What one of them said last. state: None while it does not answer."""

    def __init__(self, url: str, roles: Roles) -> None:
        self.url = url
        self.roles = roles
        self.state: ReplicationState | None = None
        self.error: ZerostorError | None = None
        self.trouble = Reminder()

    @property
    def said(self) -> str:
        """For a person: why it does not lead."""
        state = self.state
        if state is None:
            told = str(self.error or "it was not asked yet")
            return told if self.url.partition("://")[2] in told else f"{self.url}: {told}"
        return f"{self.url}: {state.refuses or 'an older master'}"


class MetadataServers:
    """Adapter of log_ports.Roles: the state is that of the server that is read from."""

    def __init__(self, servers: Mapping[str, Roles], clock: Clock) -> None:
        """servers: by URL, in the order of the settings. Asked from the first question on."""
        self._servers = [_Server(url, roles) for url, roles in servers.items()]
        self._clock = clock
        self._gateway = ""
        self._log = ""
        self._reign = 0, ""
        self._choice = Choice()
        self._told = False
        self._ready = asyncio.Event()
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def choice(self) -> Choice:
        """Which servers count now. The first time all have answered before, or had the time to."""
        if not self._tasks:
            self._tasks = [asyncio.ensure_future(self._ask(server)) for server in self._servers]
        await self._ready.wait()
        return self._choice

    async def another(self, reader: str) -> bool:
        """Whether within SETTLE_SECONDS another server than `reader` is chosen."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while self._choice.reader in ("", reader):
                    self._changed.clear()
                    await self._changed.wait()
        return self._choice.reader not in ("", reader)

    async def state(self, gateway: str = "") -> ReplicationState | None:
        """As the port says."""
        self._gateway = gateway or self._gateway
        choice = await self.choice()
        choice.check(choice.reader)
        return None if choice.state == _FOREIGN else choice.state

    async def close(self) -> None:
        """End all questions and connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            await server.roles.close()

    async def _ask(self, server: _Server) -> None:
        while True:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    server.state = await server.roles.state(self._gateway) or _FOREIGN
                if server.trouble.over():
                    log.info("metadata server %s answers", server.url)
                server.error = None
            except (TimeoutError, MetadataUnavailable, SetupError) as error:
                server.state = None
                server.error = (error if isinstance(error, ZerostorError) else
                                MetadataUnavailable(f"no answer within {ANSWER_SECONDS:g} s"))
                if server.trouble.due(str(server.error), self._clock.monotonic()):
                    level = logging.ERROR if isinstance(error, SetupError) else logging.WARNING
                    log.log(level, "metadata server %s", server.said)
            self._decide()
            await asyncio.sleep(PERIOD)

    def _decide(self) -> None:
        if any(server.state is None and server.error is None for server in self._servers):
            return
        before, self._choice = self._choice, self._chosen()
        if self._choice != before:
            self._changed.set()
            self._tell(before)
        self._ready.set()

    def _chosen(self) -> Choice:
        known = [(server, server.state) for server in self._servers if server.state is not None]
        logs = {state.log: server.url for server, state in known if state.writable and state.log}
        if not self._log and len(logs) > 1:
            return Choice(problem=_two_logs(logs), other_logs=True)
        self._log = self._log or next(iter(logs), "")
        ours = [(server, state) for server, state in known
                if not self._log or state.log in ("", self._log)]
        self._reign = max([self._reign, *(state.newest_reign for _, state in ours)])
        leading = [(server, state) for server, state in ours
                   if state.writable and state.reign >= self._reign]
        if leading:
            server = max(leading, key=lambda pair: pair[1].reign)[0]
            return Choice(server.url, server.url, "", _asked(server))
        problem = _nobody(self._servers, self._log)
        if not ours:
            return Choice(problem=problem)
        server = max(ours, key=lambda pair: (
            pair[1].reign, pair[1].file, pair[1].offset, pair[0].url == self._choice.reader))[0]
        # It may be one that the settings do not name; a slave may follow it through another one.
        elsewhere = [state.master for _, state in sorted(ours, key=lambda pair: pair[1].reign)
                     if (state.connected or state.role is Role.MASTER)
                     and state.master not in ("", *self._urls)]
        return Choice(server.url, elsewhere[-1] if elsewhere else "", problem, _asked(server))

    @property
    def _urls(self) -> list[str]:
        return [server.url for server in self._servers]

    def _tell(self, before: Choice) -> None:
        now = self._choice
        if (now.reader, now.writer, now.other_logs) == (before.reader, before.writer,
                                                        before.other_logs) and self._told:
            return
        first, self._told = not self._told, True
        if now.writer and now.state is not None:
            log.log(logging.INFO if first else logging.WARNING,
                    "metadata: %s is the master, epoch %d", now.writer, now.state.epoch)
        elif now.other_logs:
            log.error("%s", now.problem)
        else:
            log.warning("%s%s", now.problem, f". {now.reader} is read from" if now.reader else "")


def _asked(server: _Server) -> ReplicationState | None:
    state = server.state
    if state is None or state is _FOREIGN:
        return state
    return msgspec.structs.replace(state, asked=server.url)


def _nobody(servers: list[_Server], known_log: str) -> str:
    """What to do where nobody leads."""
    said = [f"{server.url}: it has another log"
            if server.state is not None and server.state.log not in ("", known_log)
            and known_log else server.said for server in servers]
    some = any(server.state is not None for server in servers)
    todo = ": bring the master back, or make a slave the master with `zerostor promote`"
    return (f"{'no metadata server is the master' if some else 'no metadata server answers'}"
            f" ({'; '.join(said)}){todo if some else ''}")


def _two_logs(logs: Mapping[str, str]) -> str:
    one, other, *_ = logs.values()
    return (f"{one} and {other} are masters of two different logs, and metadata.url names both:"
            " start the one that is to be a slave with --slave-of, on an empty metadata folder")
