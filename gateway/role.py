"""Whether this gateway may write: it follows the metadata server beside it, master or slave."""

from __future__ import annotations

import contextlib
import logging

from zerostor.core.errors import NotTheMaster, ZerostorError
from zerostor.core.replication import ReplicationState, Role
from zerostor.log_ports import Roles
from zerostor.ports import Clock

_log = logging.getLogger(__name__)

PERIOD = 1.0
"""Seconds between questions to the metadata server."""
FRESH = 0.1
"""Seconds for which an answer is good enough to refuse a write."""


class RoleWatch:
    """What the metadata server said last. Run `run` as a task."""

    def __init__(self, roles: Roles, clock: Clock, master: str, own_url: str, *,
                 several: bool = False) -> None:
        """master: the one that the settings name, until the server itself was heard.

        own_url: of this gateway; slaves tell it to those who want to write. several: the settings
        name several servers, so none of them being the master does not last: uploads are taken
        meanwhile, as they are while the only one is away.
        """
        self._roles = roles
        self._several = several
        self._clock = clock
        self._master = master
        self._own_url = own_url
        self._asked = 0.0
        self.state: ReplicationState | None = None

    @property
    def leads(self) -> bool:
        """Whether the metadata takes writes: it is no slave, and no master that was superseded."""
        return not self._master if self.state is None else self.state.writable

    @property
    def reads_only(self) -> bool:
        """Whether this gateway takes no uploads."""
        return not self.leads and not self._several

    async def run(self) -> None:
        """Ask again and again, until cancelled; while there is no answer the last one counts."""
        while True:
            try:
                await self._ask()
            except ZerostorError as error:
                _log.debug("the metadata server does not tell its role: %s", error)
            await self._clock.sleep(PERIOD)

    async def _ask(self) -> None:
        self._asked = self._clock.monotonic()
        before, self.state = self.state, await self._roles.state(self._own_url)
        if self.state is None:
            self._master = ""
            return
        if before is not None and before.writable != self.state.writable and not self._several:
            _log.warning("this gateway is %s now", self.state.role.value)
        if self.state.differs and (before is None or not before.differs):
            _log.error("master and slave differ: %s", self.state.differs)

    async def require_master(self) -> None:
        """Raise NotTheMaster, with where to go instead, unless writes are taken here."""
        if self.reads_only and self._clock.monotonic() >= self._asked + FRESH:
            # It may have been promoted a moment ago.
            with contextlib.suppress(ZerostorError):
                await self._ask()
        if not self.reads_only:
            return
        state = self.state
        where = state.writer if state is not None else self._master
        reason = state.refuses if state is not None and state.refuses else "this is a slave"
        if where:
            reason += f"; write to {where}"
        if state is not None and state.role is Role.SLAVE and not state.connected:
            reason += (f". Its master is away ({state.problem}): bring that back, or make this one"
                       " the master with `zerostor promote`")
        raise NotTheMaster(reason, where)

