"""What the gateway asks the SSH process, which has the homes."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gateway.control_link import Behind, ControlLink
from zerostor.core.errors import HomesAway, SshOff, UnknownJob
from zerostor.core.jobs import JobUpdate

STATUS_SECONDS = 3.0
_NO_JOB = "0" * 32
_SSH = Behind("the SSH process", "ssh.log", SshOff(
    "this zerostor serves no SSH homes: set enabled = true below [ssh] in its settings (or"
    " ZEROSTOR_SSH_ENABLED=true) and start it again"), HomesAway)


class HomeLink(ControlLink):
    """`ask` raises SshOff, HomesAway, and what the SSH process refused it with."""

    def __init__(self, socket: Path, *, enabled: bool) -> None:
        super().__init__(_SSH, socket, enabled=enabled)

    async def job(self, job: str) -> JobUpdate | None:
        """What is known of a job of a home. Raises HomesAway."""
        try:
            answer = await self.ask("GET", f"/status/{job}", seconds=STATUS_SECONDS)
        except (UnknownJob, SshOff):
            return None
        return msgspec.convert(answer, JobUpdate)

    async def problem(self, alive: str = f"/status/{_NO_JOB}") -> str | None:
        """As of any process; it answers that there is no such job."""
        return await super().problem(alive)
