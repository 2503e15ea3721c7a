"""What the command line says to a gateway, over the standard library's HTTP client.

One connection per request; a Client may be shared by threads. What opens a gateway goes to the
place that it is for, and to no other: nothing here follows a redirect, but `open` to the host name
that a gateway serves its objects from, and that without a credential.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import socket
import ssl
import stat
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import IO, Any

from gateway.credentials import Address, Credential, Keyring, Pins, parse_url
from gateway.early_answer import has_answered
from gateway.plain_text import plain
from gateway.trust import UntrustedCertificate, check_certificate, tls_context
from zerostor.core.errors import RequestError, ZerostorError

TIMEOUT = 30.0
"""Seconds without a byte after which we give up, on top of what was asked to wait."""
BLOCK = 1024 * 1024
SLICE = 8 * BLOCK
"""Bytes handed to sendfile before we look whether the gateway has already said no."""
ANSWER_MAX = 16 * BLOCK
DETAIL_MAX = 4096
"""Characters of a reason that are shown."""
ANSWER_SECONDS = 300.0
"""Until the last byte of an answer is here, on top of what was asked to wait: no longer does it
take over any line that carries uploads.
"""
RENEWED_BEFORE = 60.0
"""Seconds before a session ends from which on we ask for another."""

Advance = Callable[[int], None]
Renew = Callable[[Address, Credential], Credential]


class Unreachable(ZerostorError):
    """No gateway answers."""

    code = "unreachable"


class Refused(ZerostorError):
    """The gateway answered with an error. status: HTTP; code: from its problem+json, or ''. again:
    seconds after which one may come again, where it says so.
    """

    def __init__(self, status: int, code: str, detail: str, again: float | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.again = again


class Client:
    """Requests to one gateway. url: http(s)://HOST[:PORT][/PREFIX].

    keyring: where its pins are, and what opens it. pins, secret: instead of what is there. renew:
    makes another session of one that is over.
    """

    def __init__(self, url: str, keyring: Keyring | None = None, *, secret: str = "",
                 pins: Pins | None = None, renew: Renew | None = None) -> None:
        """Raises RequestError, SetupError."""
        self.address = parse_url(url)
        self._prefix = self.address.prefix
        self._keyring = keyring
        self._credential = Credential(secret)
        if keyring is not None:
            pins = pins or keyring.pins(self.address.place)
            kept = None if secret else keyring.credential(self.address.place)
            self._credential = kept or self._credential
        self._pins = pins or Pins()
        self._renew, self._renewing = renew, threading.Lock()
        if re.search(r"[^\x21-\x7e]", self._credential.secret):
            raise RequestError("a secret has no spaces and only ASCII characters")
        self._context: ssl.SSLContext | None = None
        self._answered = False

    @property
    def url(self) -> str:
        """As links begin; a port that goes without saying is left out."""
        return self.address.text

    @property
    def has_secret(self) -> bool:
        """Whether we send what opens the gateway."""
        return bool(self._credential.secret)

    def at(self, url: str) -> Client:
        """One for `url`: this one, if that is the same place."""
        other = Client(url, self._keyring, renew=self._renew)
        return self if other.address.place == self.address.place else other

    def ask(self, path: str, *, method: str = "GET", wait: float = 0.0,
            body: dict[str, object] | None = None) -> dict[str, Any]:
        """The JSON answer to a request. body: sent as JSON. Raises Unreachable, Refused."""
        headers = self._authorization() | {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        text = None if body is None else json.dumps(body).encode()
        with self._talk(wait) as connection:
            connection.request(method, self._prefix + path, text, headers)
            return self._answer(connection, wait)

    def upload(
        self, body: IO[bytes], *, ext: str, wait: float, advance: Advance, private: bool = False
    ) -> dict[str, Any]:
        """Send a file, a pipe or a terminal; the answer to POST /api/upload.

        wait: seconds the gateway may take to store it before it answers. advance: told of bytes.
        Raises Unreachable, Refused.
        """
        asked = {"ext": ext} if ext else {}
        asked |= {"wait": f"{wait:g}"} if wait else {}
        asked |= {"private": "1"} if private else {}
        mode = os.fstat(body.fileno())
        size = mode.st_size if stat.S_ISREG(mode.st_mode) else None
        with self._talk(wait) as connection:
            connection.putrequest(
                "POST", f"{self._prefix}/api/upload?{urllib.parse.urlencode(asked)}"
            )
            for name, value in (self._authorization() | {"Accept": "application/json"}).items():
                connection.putheader(name, value)
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
            except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                pass  # it stopped reading; the reason may still be there to read
            return self._answer(connection, wait)

    def send(self, path: str, content: bytes, kind: str) -> dict[str, Any]:
        """The JSON answer to a POST of bytes. kind: their media type. Raises Unreachable, Refused.
        """
        with self._talk(0.0) as connection:
            headers = self._authorization() | {"Content-Type": kind}
            connection.request("POST", self._prefix + path, content, headers)
            return self._answer(connection, 0.0)

    @contextlib.contextmanager
    def open(self, path: str, accept: str = "*/*", *, elsewhere: bool = False
             ) -> Iterator[http.client.HTTPResponse]:
        """A GET whose body is to be streamed. elsewhere: what is on another host name, as objects
        are with gateway.content_url, is fetched there, by who is nobody there.

        Raises Unreachable, Refused.
        """
        with self._talk(0.0) as connection:
            headers = self._authorization() | {"Accept": accept}
            connection.request("GET", self._prefix + path, headers=headers)
            with _ended_after(connection, ANSWER_SECONDS):
                response = connection.getresponse()
                place, _, name = response.headers.get("Location", "").rpartition("/")
                moved = response.status == 308 and elsewhere and "://" in place
                if response.status != 200 and not moved:
                    self._read(response)
            self._answered = True
            if not moved:
                yield response
                return
        with self._stranger_at(place).open(f"/{name}", accept) as response:
            yield response

    def _stranger_at(self, url: str) -> Client:
        """For where we were sent: with its pins, and nothing that opens it, although we may have
        that, for who sends us chooses what we ask there.
        """
        known = self._keyring.pins(parse_url(url).place) if self._keyring else None
        return Client(url, pins=known)

    def _authorization(self) -> dict[str, str]:
        """The header that opens the gateway, of a session that is not over if we can help it."""
        with self._renewing:
            kept = self._credential
            if self._renew and kept.session and kept.expires < time.time() + RENEWED_BEFORE:
                try:
                    self._credential = self._renew(self.address, kept)
                except Refused:
                    self._renew = None  # whether the old one is still good the gateway knows
            secret = self._credential.secret
        return {"Authorization": f"Bearer {secret}"} if secret else {}

    @contextlib.contextmanager
    def _talk(self, wait: float) -> Iterator[http.client.HTTPConnection]:
        connection = self._connection(TIMEOUT + wait)
        try:
            self._connect(connection)
            yield connection
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise
            reason = str(error) or type(error).__name__
            raise Unreachable(f"the connection to {self.url} broke off: {reason}") from error
        finally:
            connection.close()

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        _, host, port, _ = self.address
        if self.address.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout, blocksize=BLOCK)
        self._context = self._context or tls_context(self._pins)
        return http.client.HTTPSConnection(
            host, port, timeout=timeout, blocksize=BLOCK, context=self._context)

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise UntrustedCertificate(self.url, error) from error
        except OSError as error:
            raise Unreachable(
                f"no gateway answers at {self.url} ({error.strerror or error}):"
                " start one with `zerostor up`, or name another with --server URL"
            ) from error
        # Before a byte of the request: it may have a secret in it.
        if isinstance(connection.sock, ssl.SSLSocket):
            check_certificate(self.url, connection.sock, self._pins)

    @contextlib.contextmanager
    def understanding(self) -> Iterator[None]:
        """Around what reads answers. One that is none of a zerostor breaks it in many ways, and
        leaves as Refused.
        """
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            if not self._answered:
                raise
            raise Refused(200, "", f"what {self.url} answered cannot be understood"
                                   f" ({type(error).__name__}: {plain(error)[:200]})") from error

    def _answer(self, connection: http.client.HTTPConnection, wait: float) -> dict[str, Any]:
        with _ended_after(connection, ANSWER_SECONDS + wait):
            return self._read(connection.getresponse())

    def _read(self, response: http.client.HTTPResponse) -> dict[str, Any]:
        try:
            answer = _answer(response)
            self._answered = True
            return answer
        except Refused as error:
            if error.status == 401:
                error.args = (self._advised(str(error)),)
            raise

    def _advised(self, detail: str) -> str:
        """What to do with our name of the gateway: it may be reached by several."""
        way = f"zerostor login {shlex.quote(self.url)}"
        told = detail.replace("zerostor login URL", way)
        return told if way in told else f"{told}; sign in: {way}"


@contextlib.contextmanager
def _ended_after(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """Break it off if the block takes longer: timeouts of sockets begin anew with each byte."""
    def end() -> None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _send_file(
    connection: http.client.HTTPConnection, body: IO[bytes], size: int, advance: Advance
) -> None:
    sent = body.tell()
    while sent < size and not has_answered(connection):
        count = connection.sock.sendfile(body, sent, min(SLICE, size - sent))
        if not count:
            raise RequestError("the file became shorter while it was sent")
        sent += count
        advance(count)


def _send_stream(connection: http.client.HTTPConnection, body: IO[bytes], advance: Advance) -> None:
    block = memoryview(bytearray(BLOCK))
    raw: Any = getattr(body, "raw", body)
    while (count := raw.readinto(block) or 0) and not has_answered(connection):
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
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        answer = {}
        if response.status < 400:
            raise Refused(response.status, "", "that server does not speak as a zerostor gateway")
    if response.status < 400:
        return answer
    text = body[:200].decode(errors="replace").strip()
    told = answer.get("problems")
    problems = "; ".join(map(str, told)) if isinstance(told, list) else ""
    detail = answer.get("detail") or answer.get("title") or problems or text or response.reason
    # It is printed on a terminal, and whoever wrote it may want to paint there.
    shown = plain(" ".join(str(detail).split()))[:DETAIL_MAX]
    again = re.fullmatch(r"[0-9]{1,6}", response.headers.get("Retry-After", ""))
    raise Refused(response.status, str(answer.get("code", "")), f"{shown} (HTTP {response.status})",
                  float(again[0]) if again else None)
