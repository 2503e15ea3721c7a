"""Whether a gateway answers while we still send; over TLS one has to read to know.

A socket that can be read is no answer there: TLS 1.3 sends session tickets of its own accord.
"""

from __future__ import annotations

import http.client
import io
import select
import ssl
from typing import Any


def has_answered(connection: http.client.HTTPConnection) -> bool:
    """True once there is something of an answer, or the end of the connection, to read."""
    connected: Any = connection.sock
    if isinstance(connected, _ReadAhead):
        return True
    if not select.select([connected], [], [], 0)[0]:
        return False
    if not isinstance(connected, ssl.SSLSocket):
        return True
    timeout = connected.gettimeout()
    connected.setblocking(False)
    try:
        ahead: Any = _ReadAhead(connected, connected.recv(1))
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return False
    finally:
        connected.settimeout(timeout)
    connection.sock = ahead
    return True


class _ReadAhead:
    """What http.client needs of a socket, with the first bytes of the answer put back."""

    def __init__(self, connected: ssl.SSLSocket, first: bytes) -> None:
        self._connected = connected
        self._first = first

    def makefile(self, _: str) -> io.BufferedReader:
        """All of the answer."""
        rest: Any = self._connected.makefile("rb", buffering=0)
        return io.BufferedReader(_Joined(self._first, rest))

    def sendall(self, content: bytes) -> None:
        """As the socket does."""
        self._connected.sendall(content)

    def close(self) -> None:
        """As the socket does: what was made of it goes on."""
        self._connected.close()


class _Joined(io.RawIOBase):
    def __init__(self, first: bytes, rest: io.RawIOBase) -> None:
        self._first = first
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if not self._first:
            return self._rest.readinto(buffer)
        count = min(len(buffer), len(self._first))
        buffer[:count], self._first = self._first[:count], self._first[count:]
        return count

    def close(self) -> None:
        self._rest.close()
        super().close()
