"""What the gateway asks the SSH process, which has the homes: HTTP on its unix socket."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from zerostor.core.errors import HomesAway, SshOff, UnknownJob
from zerostor.core.home_protocol import raised
from zerostor.core.jobs import JobUpdate
from zerostor.core.limits import MIB
from zerostor.core.msgpack import UNDECODABLE

ANSWER_SECONDS = 30.0
"""To count a home of a million files takes some of them, once."""
STATUS_SECONDS = 3.0
ANSWER_MAX = 16 * MIB
CONNECTIONS = 32
_NO_JOB = "0" * 32
_OFF = ("this zerostor serves no SSH homes: set enabled = true below [ssh] in its settings (or"
        " ZEROSTOR_SSH_ENABLED=true) and start it again")


class HomeLink:
    """Connections are kept and shared; made when first used.

    enabled: whether there should be an SSH process; one that was started by hand is asked as well.
    """

    def __init__(self, socket: Path, *, enabled: bool) -> None:
        self._socket = socket
        self._enabled = enabled
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, method: str, path: str, *, body: bytes | None = None,
                  query: Mapping[str, str] | None = None,
                  seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """The answer. Raises SshOff, HomesAway, and what the SSH process refused it with."""
        if not self._enabled and not self._socket_is_there():
            raise SshOff(_OFF)
        try:
            async with self._open().request(
                    method, f"http://homes{path}", data=body, params=query,
                    timeout=aiohttp.ClientTimeout(total=seconds)) as response:
                text = await response.content.read(ANSWER_MAX)
                while more := await response.content.read(ANSWER_MAX - len(text)):
                    text += more
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise HomesAway("the SSH process does not answer; `zerostor up` starts it again, and"
                            " DATA/logs/ssh.log says why it ended") from error
        try:
            answer = msgspec.json.decode(text, type=dict[str, Any])
        except UNDECODABLE as error:
            raise HomesAway("the SSH process answered with something else than JSON") from error
        if response.status != 200:
            raise raised(answer)
        return answer

    async def job(self, job: str) -> JobUpdate | None:
        """What is known of a job of a home. Raises HomesAway."""
        try:
            answer = await self.ask("GET", f"/status/{job}", seconds=STATUS_SECONDS)
        except (UnknownJob, SshOff):
            return None
        return msgspec.convert(answer, JobUpdate)

    async def problem(self) -> str | None:
        """Why the SSH process cannot be used now, "" if it can; None where there should be none."""
        if not self._enabled:
            return None
        try:
            await self.job(_NO_JOB)
        except HomesAway as error:
            return str(error)
        return ""

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()

    def _socket_is_there(self) -> bool:
        return os.path.exists(self._socket)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self._socket), limit=CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)
        return self._session
