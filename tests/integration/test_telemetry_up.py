"""Telemetry under `zerostor up`: from the command line and HTTP to emulated nodes, and back."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import psutil
import pytest

from tests.fakes.metrics import read_metrics
from tests.fakes.ssh_server import ROOT
from tests.integration.test_nodes_up import Face, process, until
from tests.integration.test_ssh_homes import fits

LINES = b"".join(b"%05d t=20.5 h=41 p=1013 battery=3.71 rssi=-61 door=closed\n" % number
                 for number in range(600))


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    """A zerostor with a hub and three emulated nodes, two copies of each chunk."""
    made = Face(tmp_path_factory.mktemp("telemetry"))
    listen = made.server.removeprefix("http://")
    with process("up", "--data", str(made.folder / "data"), "--listen", listen, output=made.screen,
                 ZEROSTOR_NODES_ENABLED="true", ZEROSTOR_NODES_LISTEN="127.0.0.1:0",
                 ZEROSTOR_NODES_HEARTBEAT="1s", ZEROSTOR_TELEMETRY_COPIES="2",
                 ZEROSTOR_TELEMETRY_GRACE="2s"):
        until(lambda: "Ctrl-C" in made.screen.read_text())
        with process("node", "emulate", "--count", "3", "--folder", str(made.folder / "flash"),
                     "--server", made.server, output=made.folder / "nodes"):
            until(lambda: (made.folder / "flash" / "emu-3").exists())
            yield made


def post(face: Face, stream: str, body: bytes, kind: str) -> dict[str, object]:
    request = urllib.request.Request(f"{face.server}/api/telemetry/{stream}", body,
                                     {"Content-Type": kind})
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201
        found: dict[str, object] = json.load(answer)
    fits(found, "Appended")
    return found


def get(face: Face, path: str, accept: str = "*/*") -> tuple[str, bytes]:
    request = urllib.request.Request(f"{face.server}/api/telemetry/{path}",
                                     headers={"Accept": accept})
    with urllib.request.urlopen(request) as answer:
        return answer.headers["Content-Type"], answer.read()


def stream_of(face: Face, name: str) -> dict[str, object]:
    found = [one for one in face.json("telemetry", "ls")["streams"] if one["name"] == name]
    return found[0]


def fill(face: Face, stream: str) -> None:
    for begin in range(0, len(LINES), 6000):
        post(face, stream, LINES[begin : begin + 6000], "text/plain")


def test_from_append_to_nodes_and_back(face: Face) -> None:
    fill(face, "shed")
    assert get(face, "shed") == ("text/plain; charset=utf-8", LINES)
    until(lambda: (found := stream_of(face, "shed"))["chunks"] == found["spread"] != 0)
    fits(face.json("telemetry", "ls"), "Streams")
    assert stream_of(face, "shed")["waiting_since"] is None
    none = dict.fromkeys(("zerostor_telemetry_waiting_chunks", "zerostor_telemetry_missing_copies",
                          "zerostor_telemetry_waiting_seconds"), 0)
    until(lambda: none.items() <= read_metrics(face.server).items())
    # The hub's own files of full chunks away: what comes now comes from flash.
    folder = face.folder / "data" / "telemetry" / "shed"
    files = sorted(path for path in folder.iterdir() if path.name.isdecimal())
    for path in files[:-1]:
        path.unlink()
    assert get(face, "shed")[1] == LINES
    ledger = face.json("node", "ledger")
    fits(ledger, "Ledger")
    held = [one["chunks"] for one in ledger["owners"]]
    assert sum(held) == 2 * (len(files) - 1) == sum(one["tokens"] for one in ledger["owners"])
    lines = face.json("node", "ledger", "--lines")
    fits(lines, "Ledger")
    assert {line["kind"] for line in lines["lines"]} == {"stored"}


def test_bytes_times_and_lines(face: Face) -> None:
    first = post(face, "blobs", b"\x00\xff\n,", "application/octet-stream")
    second = post(face, "blobs", "ä\n".encode(), "application/octet-stream")
    assert get(face, "blobs") == ("application/octet-stream", b"\x00\xff\n,\xc3\xa4\n")
    assert float(str(first["at"])) <= float(str(second["at"]))
    _, lines = get(face, "blobs", "application/x-ndjson")
    assert [json.loads(line) for line in lines.splitlines()] == [
        {"at": first["at"], "base64": "AP8KLA=="}, {"at": second["at"], "text": "ä\n"}]
    assert get(face, "blobs?from=2999-01-01")[1] == b""
    assert get(face, "blobs?from=0&to=2999-01-01T00:00:00Z")[1] == b"\x00\xff\n,\xc3\xa4\n"
    assert face.zerostor("telemetry", "write", "notes", "the first") == ""
    assert face.zerostor("telemetry", "read", "notes") == "the first\n"
    assert '"text": "the first\\n"' in face.zerostor("telemetry", "read", "notes", "--times")


@pytest.mark.parametrize(("path", "status", "code"), [
    ("none", 404, "unknown-stream"), ("BAD", 400, "bad-request"),
    ("notes?from=yesterday", 400, "bad-request"), ("notes?to=" + "9" * 5000, 400, "bad-request")])
def test_what_cannot_be_read_is_said(face: Face, path: str, status: int, code: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(face, path)
    assert refused.value.code == status
    assert json.load(refused.value)["type"] == f"urn:zerostor:{code}"


def test_pipes_are_written_as_they_come_and_followed(face: Face) -> None:
    reading = ["telemetry", "read", "pipe", "--follow", "--server", face.server]
    writing = ["telemetry", "write", "pipe", "--lines", "--follow", "--server", face.server]
    with (subprocess.Popen([sys.executable, "-m", "gateway", *writing], cwd=ROOT,
                           stdin=subprocess.PIPE) as writer):
        assert writer.stdin
        writer.stdin.write(b"one\ntwo\nth")
        writer.stdin.flush()
        until(lambda: "pipe" in [one["name"] for one in face.json("telemetry", "ls")["streams"]])
        with subprocess.Popen([sys.executable, "-m", "gateway", *reading], cwd=ROOT,
                              stdout=subprocess.PIPE) as reader:
            assert reader.stdout
            assert [reader.stdout.readline() for _ in "12"] == [b"one\n", b"two\n"]
            writer.stdin.write(b"ree\nfour\nlast")
            writer.stdin.close()
            assert writer.wait(60) == 0
            assert [reader.stdout.readline() for _ in "12"] == [b"three\n", b"four\n"]
            post(face, "pipe", b"\xff\n", "application/octet-stream")
            assert reader.stdout.readline() == b"last\xff\n"
            reader.terminate()
    _, lines = get(face, "pipe", "application/x-ndjson")
    assert [json.loads(line).get("text") for line in lines.splitlines()] == [
        "one\n", "two\n", "three\n", "four\n", "last", None]


@pytest.mark.parametrize(("headers", "status"), [
    ({"Content-Encoding": "gzip"}, 415), ({"Content-Type": "multipart/form-data; boundary=x"}, 400),
    ({"Content-Length": "9999999"}, 413)])
def test_what_is_no_plain_body_leaves_nothing(
        face: Face, headers: dict[str, str], status: int) -> None:
    request = urllib.request.Request(f"{face.server}/api/telemetry/odd", b"x", headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == status
    assert "odd" not in [one["name"] for one in face.json("telemetry", "ls")["streams"]]


def test_the_console_and_the_job_list(face: Face) -> None:
    told = ["--data", str(face.folder / "data")]

    def console(line: str, code: int = 0) -> str:
        done = subprocess.run([sys.executable, "-m", "gateway", "node", "console", line, *told],
                              cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == code, done
        return done.stdout

    assert console("WRITE,motd,hello, nodes") == "WRITE,OK,12\n"
    assert console("READ,motd") == "READ,OK,12\nhello, nodes\n"
    until(lambda: console("LS").count(",OK\n") == 3)  # the master copy, two nodes
    with urllib.request.urlopen(f"{face.server}/api/nodes/chunks?limit=1") as answer:
        chunks = json.load(answer)
    fits(chunks, "NodeChunks")
    assert list(chunks["chunks"][0]["copies"].values()) == ["held", "held"]
    assert console("READ,none", code=1).startswith("READ,ERR,there is no file")
    assert console("DELETE,motd") == "DELETE,OK\n"
    assert console("WRITEB,motd,10", code=1) == ""  # the bytes never come, nor does an answer
    assert console("READ,motd", code=1).startswith("READ,ERR,there is no file")
    with subprocess.Popen([sys.executable, "-m", "gateway", "node", "console", *told], cwd=ROOT,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as typing:
        assert typing.stdin and typing.stdout
        typing.stdin.write(b"WRITEB,motd,many\n")
        typing.stdin.flush()
        assert typing.stdout.read().startswith(b"WRITEB,ERR,the length")
        assert typing.wait(60) == 1  # it was hung up on
    jobs = face.json("node", "jobs")
    fits(jobs, "NodeJobs")
    assert {job["task"] for job in jobs["ended"]} >= {"writedfs", "deldfs"}
    assert "writedfs" in face.zerostor("node", "jobs", "--limit", "1000")


def test_too_much_and_nothing_are_refused(face: Face) -> None:
    for body, status in ((bytes(1 << 20), 201), (bytes((1 << 20) + 1), 413), (b"", 400)):
        try:
            post(face, "large", body, "application/octet-stream")
            assert status == 201
        except urllib.error.HTTPError as refused:
            assert refused.code == status
    assert get(face, "large")[1] == bytes(1 << 20)
    face.zerostor("telemetry", "rm", "large")
    with pytest.raises(urllib.error.HTTPError):
        get(face, "large")


def test_a_dead_node_is_replaced_and_a_dead_hub_forgets_nothing(face: Face) -> None:
    def lost() -> list[psutil.Process]:
        return [one for one in psutil.process_iter(["cmdline"])
                if str(face.folder / "flash" / "emu-2") in " ".join(one.info["cmdline"] or [])]

    fill(face, "yard")
    until(lambda: (found := stream_of(face, "yard"))["chunks"] == found["spread"] != 0)
    before = {one["owner"]: one["chunks"] for one in face.json("node", "ledger")["owners"]}
    assert lost()
    for one in lost():
        one.kill()
    hub = [one for one in psutil.process_iter(["cmdline"])
           if str(face.folder / "data") in " ".join(one.info["cmdline"] or [])
           and "nodes" in (one.info["cmdline"] or [])]
    assert len(hub) == 1
    hub[0].kill()
    until(lambda: not hub[0].is_running())

    def back() -> bool:
        try:
            return get(face, "yard")[1] == LINES
        except (urllib.error.HTTPError, http.client.IncompleteRead, ConnectionError):
            return False  # its nodes dial in one after the other

    until(back)
    assert sum(before.values()) > 0
    until(lambda: (found := stream_of(face, "yard"))["chunks"] == found["spread"])
    assert get(face, "yard")[1] == LINES
