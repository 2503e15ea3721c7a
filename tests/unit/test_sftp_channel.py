"""Requests that wait while a thread works on one before them."""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sshgw.pace import Calls
from sshgw.sftp_channel import PIECES_MAX, SftpChannel
from sshgw.threads import Threads
from sshgw.visit import Visit
from zerostor.homes.folder import Folder

REQUESTS = 600
STAT = b"".join(struct.pack(">IBII", 10, 17, number, 1) + b"/" for number in range(REQUESTS))


class Channel:
    """As much of the library's as is asked; what it was told."""

    def __init__(self) -> None:
        self.reading = True
        self.written = b""

    def set_write_buffer_limits(self, _high: int) -> None:
        """Nothing waits here."""

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return False

    def write(self, chunk: bytes) -> None:
        self.written += chunk


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(1)
    yield threads
    threads.close()


def answered(written: bytes) -> list[int]:
    """The numbers of the requests that were answered with attributes."""
    numbers = []
    while written:
        size, kind, number = struct.unpack_from(">IBI", written)
        assert kind == 105
        numbers.append(number)
        written = written[4 + size:]
    return numbers


async def test_small_pieces_that_wait_for_a_thread_are_few(
    tmp_path: Path, threads: Threads
) -> None:
    home, busy, channel = Folder(str(tmp_path / "anna"), 10**6), threading.Event(), Channel()
    threads.submit(lambda: busy.wait() and None)
    library: Any = channel
    sftp = SftpChannel(library, Visit("anna", home, lambda _: None, lambda *_: None), threads,
                       Calls(time.monotonic))
    pieces = [STAT[at:at + 2] for at in range(0, len(STAT), 2)]
    waiting = 0
    while channel.reading:
        sftp.received(pieces[waiting])
        waiting += 1
    assert waiting <= PIECES_MAX + 1
    busy.set()
    async with asyncio.timeout(20):
        for piece in pieces[waiting:]:
            while not channel.reading:
                await asyncio.sleep(0.01)
            sftp.received(piece)
        while len(answered(channel.written)) < REQUESTS:
            await asyncio.sleep(0.01)
    assert answered(channel.written) == list(range(REQUESTS))
    sftp.closed()
