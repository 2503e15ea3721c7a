"""What runs on a channel once a client asked for it; told of bytes and pauses by the session."""

from __future__ import annotations

from typing import Protocol

import asyncssh

Channel = asyncssh.SSHServerChannel[bytes]
STDERR = asyncssh.EXTENDED_DATA_STDERR


class Program(Protocol):
    """Called on the event loop. It ends by exit() on its channel."""

    def received(self, chunk: bytes) -> None:
        """Bytes from the client."""

    def ended(self) -> None:
        """The client has nothing more to say."""

    def pause(self) -> None:
        """The client does not take what was written: write no more until `resume`."""

    def resume(self) -> None:
        """It takes more."""

    def closed(self) -> None:
        """The channel is gone. Let go of everything."""


class Farewell:
    """A program that says one sentence and ends. sentence: for stderr. code: the exit code."""

    def __init__(self, channel: Channel, sentence: str, code: int = 1) -> None:
        self._channel = channel
        self._sentence = sentence
        self._code = code

    def start(self) -> None:
        """Say it."""
        self._channel.write(f"zerostor: {self._sentence}\r\n".encode(), STDERR)
        self._channel.exit(self._code)

    def received(self, chunk: bytes) -> None:
        """Nothing that is sent matters."""

    def ended(self) -> None:
        """As `received`."""

    def pause(self) -> None:
        """As `received`."""

    def resume(self) -> None:
        """As `received`."""

    def closed(self) -> None:
        """As `received`."""
