"""A gateway in a dict, on a real socket: enough of the HTTP API to try the command line against."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

from zerostor.core.checksum import ContentHasher

_Server = TypeVar("_Server", bound=ThreadingHTTPServer)


class TinyGateway(ThreadingHTTPServer):
    """slow: uploads answer 202 and the job ends after `polls` questions. limit: bytes of a body.

    secret: what has to be sent for uploads and what is listed, where it is one. certificate: PEM
    file with its key, for TLS.
    """

    daemon_threads = True

    def __init__(self, certificate: Path | None = None,
                 handler: type[TinyHandler] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), handler or TinyHandler)
        self.scheme = "http"
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if certificate is not None:
            self.certify(certificate)
            self.socket = self._context.wrap_socket(self.socket, server_side=True)
            self.scheme = "https"
        self.secret = ""
        self.moved = ""
        self.reason = "no such object"
        self.presented: list[str | None] = []
        self.opened_by: list[str | None] = []
        self.objects: dict[str, bytes] = {}
        self.names: dict[str, str] = {}
        self.polls = 0
        self.asked: dict[str, int] = {}
        self.limit = 10**9
        self.fail = ""
        self.waits = ""
        self.damage = ""
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def certify(self, certificate: Path) -> None:
        """From now on by that certificate."""
        self._context.load_cert_chain(certificate)

    def handle_error(self, *_: object) -> None:
        """A client that hangs up, as one that does not trust us does."""


@contextmanager
def serving(server: _Server) -> Iterator[_Server]:
    """It answers in a thread until the end of the block."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def tiny_gateway(certificate: Path | None = None) -> AbstractContextManager[TinyGateway]:
    return serving(TinyGateway(certificate))


class TinyHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TinyGateway

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.get()

    def do_POST(self) -> None:
        self.post()

    def post(self) -> None:
        parts = urlsplit(self.path)
        self.server.requests.append(self.path)
        if not self.opened():
            return None
        if parts.path.endswith("/requeue"):
            return self.answer(200, {"job": parts.path.split("/")[3]})
        length = int(self.headers.get("Content-Length", "0"))
        if length > self.server.limit:
            self.close_connection = True
            self.problem(413, "too-large", "the body is larger than the limit")
            return self.linger()
        body = self.chunks() if self.headers.get("Transfer-Encoding") else self.rfile.read(length)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        hasher = ContentHasher()
        hasher.update(body)
        number = len(self.server.objects)
        digits = f"{hasher.digest().hex()}{number:08x}"
        link = f"{digits}.{asked['ext']}" if "ext" in asked else digits
        job = f"{number:032x}"
        self.server.objects[digits], self.server.names[job] = body, link
        if "wait" in asked and not self.server.polls:
            return self.answer(200, {"hash": digits, "link": f"/{link}", "job": job})
        return self.answer(202, {"job": job, "status": f"/api/status/{job}"})

    def get(self) -> None:
        self.server.requests.append(self.path)
        path = urlsplit(self.path).path
        if self.server.moved:
            self.send_response(308)
            self.send_header("Location", self.server.moved + self.path)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if path.startswith("/api/status/"):
            return self.status(path.rpartition("/")[2])
        if path.startswith("/api/"):
            if not self.opened():
                return None
            _, kind, *rest = path.strip("/").split("/")
            found = rest and rest[0] in self.server.objects
            if rest and not found:
                return self.problem(404, "unknown-object", self.server.reason)
            return self.answer(200, CANNED[kind] | ({"hash": rest[0]} if rest else {}))
        self.server.opened_by.append(self.headers.get("Authorization"))
        body = self.server.objects.get(path.lstrip("/").partition(".")[0])
        if body is None:
            return self.problem(404, "unknown-object", "no such object")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.damage == "flip":
            body = bytes([body[0] ^ 1]) + body[1:]
        if self.server.damage == "cut":
            body, self.close_connection = body[:-1], True
        self.wfile.write(body)
        return None

    def status(self, job: str) -> None:
        if job not in self.server.names:
            return self.problem(404, "unknown-job", "no such job")
        if self.server.fail:
            return self.answer(200, {"job": job, "state": "ERROR", "detail": self.server.fail})
        self.server.asked[job] = self.server.asked.get(job, 0) + 1
        if self.server.asked[job] < self.server.polls:
            state = "WAITING" if self.server.waits else "ACTIVE"
            told = {"job": job, "state": state, "detail": self.server.waits, "progress": 0.5}
            return self.answer(200, told)
        link = self.server.names[job]
        return self.answer(200, {"job": job, "state": "DONE", "link": link, "progress": 1.0})

    def linger(self) -> None:
        """As servers do: what is reset at once may never be read."""
        self.connection.settimeout(10)
        with suppress(OSError):
            for _ in range(1000):
                if not self.rfile.read1(65536):
                    break

    def opened(self) -> bool:
        told = self.headers.get("Authorization")
        self.server.presented.append(told)
        if not self.server.secret or told == f"Bearer {self.server.secret}":
            return True
        self.close_connection = True
        self.problem(401, "sign-in-needed", "this needs a secret: `zerostor login URL`")
        if self.command == "POST":
            self.linger()
        return False

    def chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def problem(self, status: int, code: str, detail: str) -> None:
        self.answer(status, {"status": status, "code": code, "detail": detail})

    def answer(self, status: int, value: dict[str, object]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


CANNED: dict[str, dict[str, object]] = {
    "exists": {"size": 3},
    "check": {
        "state": "degraded",
        "good": 19,
        "needed": 16,
        "total": 20,
        "shards": [{"index": 0, "store": "07", "state": "missing", "detail": "no such shard"}],
    },
    "jobs": {
        "waiting": 3,
        "running": 1,
        "delayed": 0,
        "oldest": 61.0,
        "workers": ["worker-a"],
        "failed": [{"job": "ab" * 16, "state": "ERROR", "detail": "the spool entry is damaged"}],
    },
    "stores": {
        "stores": [
            {
                "name": "00",
                "url": "dir:///x/00",
                "pool": "main",
                "state": "up",
                "reason": "",
                "total": 10**12,
                "free": 5 * 10**11,
                "labels": {"host": "nas"},
            },
            {
                "name": "01",
                "url": "dir:///x/01",
                "pool": "main",
                "state": "down",
                "reason": "no marker",
                "total": None,
                "free": None,
                "labels": {},
            },
        ]
    },
}
