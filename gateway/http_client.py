"""What the command line says to a gateway, over the standard library's HTTP client.

One connection per request; a Client may be shared by threads.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import stat
import urllib.parse
from collections.abc import Callable, Iterator
from typing import IO, Any

from zerostor.core.errors import RequestError, ZerostorError

TIMEOUT = 30.0
"""Seconds without a byte after which we give up, on top of what was asked to wait."""
BLOCK = 1024 * 1024
SLICE = 8 * BLOCK
"""Bytes handed to sendfile before we look whether the gateway has already said no."""
ANSWER_MAX = 16 * BLOCK

Advance = Callable[[int], None]


class Unreachable(ZerostorError):
    """No gateway answers."""

    code = "unreachable"


class Refused(ZerostorError):
    """The gateway answered with an error. status: HTTP; code: from its problem+json, or ''."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


class Client:
    """Requests to one gateway. url: http(s)://HOST[:PORT][/PREFIX]."""

    def __init__(self, url: str) -> None:
        try:
            parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in ("http", "https"):
            raise RequestError(f"{url!r} is not the address of a server, as http://127.0.0.1:8080")
        self._secure = parts.scheme == "https"
        self._host, self._port = host, port
        self._prefix = parts.path.rstrip("/")
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{self._prefix}"

    def ask(self, path: str, *, method: str = "GET", wait: float = 0.0,
            body: dict[str, object] | None = None) -> dict[str, Any]:
        """The JSON answer to a request. body: sent as JSON. Raises Unreachable, Refused."""
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        text = None if body is None else json.dumps(body).encode()
        with self._talk(wait) as connection:
            connection.request(method, self._prefix + path, text, headers)
            return _answer(connection.getresponse())

    def upload(self, body: IO[bytes], *, ext: str, wait: float, advance: Advance) -> dict[str, Any]:
        """Send a file, a pipe or a terminal; the answer to POST /api/upload.

        wait: seconds the gateway may take to store it before it answers. advance: told of bytes.
        Raises Unreachable, Refused.
        """
        asked = {"ext": ext} if ext else {}
        asked |= {"wait": f"{wait:g}"} if wait else {}
        mode = os.fstat(body.fileno())
        size = mode.st_size if stat.S_ISREG(mode.st_mode) else None
        with self._talk(wait) as connection:
            connection.putrequest(
                "POST", f"{self._prefix}/api/upload?{urllib.parse.urlencode(asked)}"
            )
            connection.putheader("Accept", "application/json")
            connection.putheader("Content-Type", "application/octet-stream")
            if size is None:
                connection.putheader("Transfer-Encoding", "chunked")
            else:
                connection.putheader("Content-Length", str(size))
            connection.endheaders()
            try:
                if size is None:
                    _send_stream(connection, body, advance)
                else:
                    _send_file(connection, body, size, advance)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it stopped reading; the reason may still be there to read
            return _answer(connection.getresponse())

    def send(self, path: str, content: bytes, kind: str) -> dict[str, Any]:
        """The JSON answer to a POST of bytes. kind: their media type. Raises Unreachable, Refused.
        """
        with self._talk(0.0) as connection:
            connection.request("POST", self._prefix + path, content, {"Content-Type": kind})
            return _answer(connection.getresponse())

    @contextlib.contextmanager
    def open(self, path: str, accept: str = "*/*") -> Iterator[http.client.HTTPResponse]:
        """A GET whose body is to be streamed. Raises Unreachable, Refused."""
        with self._talk(0.0) as connection:
            connection.request("GET", self._prefix + path, headers={"Accept": accept})
            response = connection.getresponse()
            if response.status != 200:
                _answer(response)
            yield response

    @contextlib.contextmanager
    def _talk(self, wait: float) -> Iterator[http.client.HTTPConnection]:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=TIMEOUT + wait, blocksize=BLOCK)
        try:
            try:
                connection.connect()
            except OSError as error:
                raise Unreachable(
                    f"no gateway answers at {self.url} ({error.strerror or error}):"
                    " start one with `zerostor up`, or name another with --server URL"
                ) from error
            yield connection
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise
            reason = str(error) or type(error).__name__
            raise Unreachable(f"the connection to {self.url} broke off: {reason}") from error
        finally:
            connection.close()


def _answered(connection: http.client.HTTPConnection) -> bool:
    return bool(select.select([connection.sock], [], [], 0)[0])


def _send_file(
    connection: http.client.HTTPConnection, body: IO[bytes], size: int, advance: Advance
) -> None:
    sent = body.tell()
    while sent < size and not _answered(connection):
        count = connection.sock.sendfile(body, sent, min(SLICE, size - sent))
        if not count:
            raise RequestError("the file became shorter while it was sent")
        sent += count
        advance(count)


def _send_stream(connection: http.client.HTTPConnection, body: IO[bytes], advance: Advance) -> None:
    block = memoryview(bytearray(BLOCK))
    raw: Any = getattr(body, "raw", body)
    while (count := raw.readinto(block) or 0) and not _answered(connection):
        connection.sock.sendall(b"%x\r\n" % count)
        connection.sock.sendall(block[:count])
        connection.sock.sendall(b"\r\n")
        advance(count)
    if not count:
        connection.sock.sendall(b"0\r\n\r\n")


def _answer(response: http.client.HTTPResponse) -> dict[str, Any]:
    body = response.read(ANSWER_MAX)
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        answer = {}
        if response.status < 400:
            raise Refused(response.status, "", "that server does not speak as a zerostor gateway")
    if response.status < 400:
        return answer
    text = body[:200].decode(errors="replace").strip()
    problems = "; ".join(str(problem) for problem in answer.get("problems") or [])
    detail = answer.get("detail") or answer.get("title") or problems or text or response.reason
    raise Refused(
        response.status, str(answer.get("code", "")), f"{detail} (HTTP {response.status})"
    )
