"""One channel of a client: which program runs on it, and what is refused, in words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import asyncssh

from sshgw.pace import Calls
from sshgw.program import Channel, Farewell, Program
from sshgw.sftp_channel import SftpChannel
from sshgw.streams import Streams
from sshgw.threads import Threads
from sshgw.visit import Visit

NO_SHELL = "this home takes files and has no shell; use sftp, scp, rsync or sshfs"
VARIABLES_MAX = 100
REFUSED = "only sftp, scp and rsync run here; use sftp, scp, rsync or sshfs"

Serve = Callable[[str, Visit, Streams], Awaitable[int]]
"""(command line, whose home, stdin and stdout) -> exit code."""


class Session(asyncssh.SSHServerSession[bytes]):
    """Runs one program. gone: called when the channel is. active: when bytes went last.

    visiting: opens the home of who logged in; raises OSError. commands: by the first word.
    """

    def __init__(self, visiting: Callable[[], Visit], commands: Mapping[str, Serve],
                 threads: Threads, calls: Calls, monotonic: Callable[[], float],
                 gone: Callable[[], None]) -> None:
        self._visiting = visiting
        self._commands = commands
        self._threads = threads
        self._calls = calls
        self._monotonic = monotonic
        self._gone = gone
        self.active = monotonic()
        self._begin: Callable[[Channel], Program] | None = None
        self._channel: Channel | None = None
        self._program: Program | None = None
        self._held = {"channel": False, "connection": False}

    def connection_made(self, chan: Channel) -> None:
        """The channel is there."""
        self._channel = chan

    def shell_requested(self) -> bool:
        """Say what can be done instead."""
        self._begin = lambda channel: Farewell(channel, NO_SHELL)
        return True

    def exec_requested(self, command: str) -> bool:
        """Only what `commands` has; for the rest a sentence."""
        serve = self._commands.get(command.split(" ", 1)[0])
        if serve is None:
            self._begin = lambda channel: Farewell(channel, REFUSED)
            return True
        known = serve

        def begin(channel: Channel) -> Program:
            visit = self._visiting()
            return Streams(channel, lambda streams: known(command, visit, streams))

        self._begin = begin
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        """Only sftp."""
        if subsystem != "sftp":
            return False
        self._begin = lambda channel: SftpChannel(
            channel, self._visiting(), self._threads, self._calls)
        return True

    def session_started(self) -> None:
        """The client knows that its request was granted."""
        assert self._channel is not None
        assert self._begin is not None
        try:
            self._program = self._begin(self._channel)
        except OSError as error:
            sentence = f"the home cannot be opened: {error.strerror or error}"
            self._program = Farewell(self._channel, sentence)
        if isinstance(self._program, Farewell):
            self._program.start()
        elif any(self._held.values()):
            self._program.pause()

    def data_received(self, chunk: bytes, datatype: int | None) -> None:  # noqa: ARG002
        """Bytes from the client."""
        self.active = self._monotonic()
        if self._program is not None:
            self._program.received(chunk)

    def eof_received(self) -> bool:
        """The program ends the channel, not the library."""
        if self._program is not None:
            self._program.ended()
        return True

    def pause_writing(self) -> None:
        """The client does not take what was written to this channel."""
        self._hold("channel", True)

    def resume_writing(self) -> None:
        """It does again."""
        self._hold("channel", False)

    def hold(self, full: bool) -> None:
        """The connection below all channels is full, or no longer: a window may be gigabytes."""
        self._hold("connection", full)

    def excessive(self) -> bool:
        """Whether there are more variables than any client sends; none of them is used."""
        return self._channel is not None and (
            len(self._channel.get_environment_bytes()) > VARIABLES_MAX)

    def _hold(self, reason: str, held: bool) -> None:
        self.active = self._monotonic()
        before = any(self._held.values())
        self._held[reason] = held
        now = any(self._held.values())
        if self._program is not None and now != before:
            (self._program.pause if now else self._program.resume)()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The channel is gone, well or badly."""
        if self._program is not None:
            self._program.closed()
        self._program = None
        self._gone()
