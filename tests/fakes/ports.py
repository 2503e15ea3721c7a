"""Ports for servers that are started later, by another process."""

from __future__ import annotations

import socket
import sys

_kept: list[socket.socket] = []


def free_port() -> int:
    """One that nobody listens on, and that nobody else is given while this process runs."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    port = int(held.getsockname()[1])
    # Linux lets a server listen beside a socket that is bound and does not listen, and gives such
    # a port to no other; without it a test elsewhere may get the port before the server has it.
    if sys.platform == "linux":
        _kept.append(held)
    else:
        held.close()
    return port
