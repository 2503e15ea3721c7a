"""Each command against a gateway that answers anything: one sentence, exit code 1, no traceback."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway import http_client
from gateway.cli import cli
from gateway.commands import telemetry
from gateway.commands.put import TRIES
from tests.fakes.person import Person
from tests.fakes.tiny_gateway import serving

HASH, JOB = "ab" * 24 + "00000007", "ab" * 16
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkBxA"
PAINT = "\x1b]0;owned\x07\x1b[2J\u202e\x9b1m\ud800\rboss"
FIELDS = (
    "stores", "nodes", "sessions", "streams", "events", "links", "failed", "workers", "next",
    "removed", "objects", "severity", "rebalance", "durability", "counted",
    "metadata", "archive", "running", "ended", "waiting", "owners", "lines", "homes", "keys",
    "hub", "shards", "good", "total", "state", "job", "link", "hash", "problems", "detail",
    "revoked", "secret", "key", "security", "bad", "after", "used", "limit", "oldest", "slaves",
    "deleted", "server", "files", "url", "name", "role", "size", "private", "progress",
    "needed", "code", "title", "user", "index", "store", "at", "kind", "node", "owner", "site",
    "text", "last", "chunk", "tokens", "reason", "free", "labels", "fingerprint", "comment",
    "path")
VALUES: dict[str, object] = {
    "numbers": 5, "texts": PAINT, "list": [5], "objects": [{}], "object": {"a": 5}, "null": None,
    "true": True, "huge": 10**400, "rows": [dict.fromkeys(FIELDS, PAINT)]}
ANSWERS = {name: json.dumps(dict.fromkeys(FIELDS, value)) for name, value in VALUES.items()} | {
    "empty": "{}", "none": "", "a list": "[]", "cut": '{"a": ', "deep": "[" * 100_000,
    "long": '{"good": %s}' % ("9" * 5000), "bytes": "\xff\xfe<html>",
    "not numbers": '{"good": NaN, "oldest": 1e999, "stores": [{"free": NaN, "state": "up"}],'
                   ' "nodes": [{"state": "connected", "size": NaN}]}',
    "done": json.dumps({"state": "DONE", "link": PAINT, "job": PAINT}),
    "error": json.dumps({"state": "ERROR", "detail": PAINT, "job": PAINT})}
COMMANDS = (
    "put FILE --wait 1s", "put FILE FILE --no-wait --json", f"get {HASH} -o OUT", f"status {JOB}",
    f"status {JOB} --json", f"exists {HASH}", f"exists {HASH} --json", f"check {HASH}",
    f"check {HASH} --hard", f"check {HASH} --json", "stores", "stores --json", "jobs",
    f"jobs --requeue {JOB}", "events", "events --since 1h", "events --json", "node ls",
    "node ls --json", "node jobs", "node events", "node ledger",
    "node ledger --lines", "node add n1", "node rm n1", "node rotate n1", "node wipe n1 --yes",
    "node verify n1", "node update n1", "node update --all",
    "node flash /dev/none --name n1 --dry-run --folder OUT", "telemetry ls", "telemetry read s",
    "telemetry read s --times", "telemetry write s x", "telemetry rm s", "ssh-enable anna",
    "ssh-enable anna --key KEY", "ssh-disable anna", "ssh-size", "ssh-size anna", "ssh-links anna",
    "ssh-events anna", "ssh-process anna /a --wait 1s", "ssh-process anna /a --no-wait",
    f"rm {HASH} --yes", "rm --list", f"restore {HASH}", f"quarantine {HASH}", f"repair {HASH}",
    "repair --all", "scrub", "scrub start", "events", "check --all",
    "stores add x dir:///none", "stores drain x", "stores undrain x", "stores remove x",
    "stores rebalance", "sessions ls", f"sessions revoke {JOB}", "login URL --yes", "logout URL")


class Anything(ThreadingHTTPServer):
    """Answers everything alike."""

    daemon_threads = True
    status, body, again, asked = 200, "", "", 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """A client that had enough."""


class _Handler(BaseHTTPRequestHandler):
    server: Anything

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = self.server.body.encode("latin-1")
        self.server.asked += 1
        self.send_response(self.server.status)
        if self.server.again:
            self.send_header("Retry-After", self.server.again)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_DELETE = do_GET  # noqa: N815


class Asker:
    """Runs commands here, with files of its own."""

    def __init__(self, folder: Path) -> None:
        self.person = Person(folder / "ann")
        self.person.key()
        self.places = {"FILE": folder / "file.txt", "OUT": folder / "out", "KEY": folder / "k.pub"}
        self.places["FILE"].write_text("x")
        self.places["KEY"].write_text(SSH_KEY)

    def ask(self, command: str, url: str) -> Result:
        words = [str(self.places.get(word, word)) for word in command.split()]
        words = [url if word == "URL" else word for word in words]
        if "URL" not in command:
            words += ["--server", url]
        named = {name: None for name in os.environ if name.startswith("ZEROSTOR_")}
        named |= {"XDG_CONFIG_HOME": str(self.person.folder)}
        return CliRunner().invoke(cli, words, env=named, prog_name="zerostor")


@pytest.fixture
def asker(tmp_path: Path) -> Asker:
    return Asker(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_answers_of_any_shape(asker: Asker, command: str) -> None:
    with serving(Anything(("127.0.0.1", 0), _Handler)) as gateway:
        for status in (200, 500):
            for name, body in ANSWERS.items():
                gateway.status, gateway.body = status, body
                done = asker.ask(command, gateway.url)
                where = (status, name, done.output)
                assert done.exception is None or isinstance(done.exception, SystemExit), where
                assert done.exit_code in (0, 1), where
                assert done.exit_code == 0 or done.output.strip(), "it says why"
                assert not [sign for sign in "\x1b\x07\x9b\r\u202e" if sign in done.output], where
                if status == 500 and "logout" not in command:
                    assert done.exit_code == 1, where


def test_files_beside_one_whose_answer_is_none_are_told_of(asker: Asker) -> None:
    with serving(Anything(("127.0.0.1", 0), _Handler)) as gateway:
        gateway.body = json.dumps({"hash": HASH, "link": 5})
        told = asker.ask("put FILE FILE --json", gateway.url)
    assert told.exit_code == 0, told.output
    assert len(told.output.splitlines()) == 2


@pytest.mark.parametrize(("status", "again", "asked"), [
    (429, "0", TRIES), (429, "soon", 1), (429, "", 1), (429, "9" * 400, 1), (503, "0", 1)])
def test_an_upload_is_tried_again_so_often(asker: Asker, status: int, again: str, asked: int
                                           ) -> None:
    with serving(Anything(("127.0.0.1", 0), _Handler)) as gateway:
        gateway.status, gateway.again = status, again
        gateway.body = json.dumps({"detail": "too many come"})
        done = asker.ask("put FILE", gateway.url)
    assert (done.exit_code, gateway.asked) == (1, asked), done.output
    assert done.output.count("trying again") == asked - 1


def test_no_file_is_written_where_a_gateway_says(asker: Asker, tmp_path: Path) -> None:
    """It names the node that it added."""
    hostile = tmp_path / "hostile"
    with serving(Anything(("127.0.0.1", 0), _Handler)) as gateway:
        gateway.body = json.dumps({"name": str(hostile), "key": "ab" * 32, "update_key": "cd" * 32,
                                   "hub": {"address": "10.0.0.1:7777"}})
        done = asker.ask("node flash /dev/none --name n1 --dry-run --folder OUT", gateway.url)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "n1.json").exists()
    assert not hostile.with_suffix(".json").exists()


@contextlib.contextmanager
def without_end(head: bytes, more: bytes, pause: float) -> Iterator[str]:
    """The address of one who answers `head`, and then `more` again and again."""
    ended = threading.Event()

    def talk(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.recv(65_536)
            client.sendall(head)
            while not ended.wait(pause):
                client.sendall(more)

    def listen() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=listen, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("command", ["jobs", "put FILE", f"get {HASH} -o OUT", "login URL"])
@pytest.mark.parametrize(("head", "more", "pause"), [
    (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01),
    (b"HTTP/1.1 500 No\r\n", b"X: y\r\n", 0.1),
    (b"HTTP/1.1 500 No\r\n", b"X", 0.01),
    (b"HTTP/1.1 500 No\r\nContent-Length: 99999999\r\n\r\n", b" ", 0.01),
    (b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 0.01),
    (b"HTTP/1.1 500 No\r\n\r\n", bytes(1024 * 1024), 0.0)],
    ids=["interim", "headers", "header", "bytes", "chunks", "much"])
def test_answers_without_an_end(asker: Asker, monkeypatch: pytest.MonkeyPatch, command: str,
                                head: bytes, more: bytes, pause: float) -> None:
    monkeypatch.setattr(http_client, "ANSWER_SECONDS", 0.3)
    with without_end(head, more, pause) as url:
        done = asker.ask(command, url)
    assert done.exit_code == 1, done.output
    assert "broke off" in done.output or "HTTP 500" in done.output


def test_what_somebody_appended_does_not_act_on_a_terminal(
        monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    content = f"a\tb\n{PAINT.replace(chr(0xd800), '')}\n".encode() + b"\xff"
    telemetry._print(content)
    assert capfdbinary.readouterr().out == content, "a pipe gets what is there"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    telemetry._print(content)
    shown = capfdbinary.readouterr().out
    assert shown.startswith(b"a\tb\n?]0;owned??[2J") and shown.count(b"\n") == 2
    assert b"\x1b" not in shown and b"\xc2\x9b" not in shown
