"""What waits is joined: pieces of a byte would cost memory and time many times their size."""

from __future__ import annotations

import collections
import os
from typing import Any

from sshgw import pieces
from sshgw.connection import BoundedChannel
from sshgw.sftp_wire import Splitter

FLOOD = os.urandom(20_000)


def test_pieces_are_joined_and_large_ones_are_let_be() -> None:
    waiting: collections.deque[bytes] = collections.deque([b"x" * 10_000])
    for at in range(len(FLOOD)):
        pieces.add(waiting, FLOOD[at:at + 1])
    pieces.add(waiting, b"y" * 10_000)
    assert b"".join(waiting) == b"x" * 10_000 + FLOOD + b"y" * 10_000
    assert len(waiting) <= 3 + len(FLOOD) // pieces.SMALL


def test_the_library_keeps_few_pieces_of_a_channel_that_is_not_read() -> None:
    channel: Any = BoundedChannel.__new__(BoundedChannel)
    channel._recv_paused, channel._recv_buf, channel._recv_window = True, [], 10**6
    channel._send_state = "open"
    for at in range(len(FLOOD)):
        channel._accept_data(FLOOD[at:at + 1])
    channel._accept_data(b"of another kind", 1)
    assert channel._recv_buf[-1] == (b"of another kind", 1)
    assert b"".join(chunk for chunk, _ in channel._recv_buf[:-1]) == FLOOD
    assert len(channel._recv_buf) <= 2 + len(FLOOD) // pieces.SMALL
    assert channel._recv_window == 10**6 - len(FLOOD) - 15


def test_a_packet_in_many_pieces_is_one_packet() -> None:
    splitter = Splitter()
    packet = len(FLOOD).to_bytes(4, "big") + FLOOD
    for at in range(len(packet)):
        assert splitter.next() is None
        splitter.feed(packet[at:at + 1])
    assert splitter.next() == FLOOD
    assert splitter.next() is None
