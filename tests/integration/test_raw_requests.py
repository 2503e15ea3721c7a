"""Bytes that no client sends, on a running zerostor: smuggling, bombs, ranges, headers."""

from __future__ import annotations

import gzip
import re

import psutil
import pytest

from tests.fakes.running_up import Up, content_of

SMUGGLING = {
    "length and chunks": b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "two hosts": b"Host: y\r\nContent-Length: 0\r\n\r\n",
    "a length with a sign": b"Content-Length: +4\r\n\r\nbody",
    "chunks by another name": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a bare line feed": b"X: a\nContent-Length: 4\r\n\r\nbody",
    "a folded line": b"X: a\r\n Content-Length: 4\r\n\r\nbody",
    "another coding": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "an empty coding": b"Transfer-Encoding:\r\nContent-Length: 4\r\n\r\nbody",
    "chunks twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "a list of lengths": b"Content-Length: 4, 4\r\n\r\nbody",
    "a chunk with a sign": b"Transfer-Encoding: chunked\r\n\r\n+4\r\nbody\r\n0\r\n\r\n",
    "a chunk with bare line feeds": b"Transfer-Encoding: chunked\r\n\r\n4\nbody\n0\n\n",
    "a chunk with an extension": b"Transfer-Encoding: chunked\r\n\r\n5;a=\nb\r\nhello\r\n0\r\n\r\n",
    "a zero byte": b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": b"Content-Length : 4\r\n\r\nbody",
}
ANSWER = re.compile(rb"HTTP/1\.[01] [0-9]{3} ")
INNER = b"GET /api/jobs?smuggled=1 HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    with Up(tmp_path_factory.mktemp("raw") / "zerostor") as running:
        yield running


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Where aiohttp has no parser in C, as on a machine without its wheel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIOHTTP_NO_EXTENSIONS", "1")
        with Up(tmp_path_factory.mktemp("plain") / "zerostor") as running:
            environ = psutil.Process(running.pid("gateway")).environ()
            assert environ["AIOHTTP_NO_EXTENSIONS"] == "1"
            yield running


def whole(head: bytes, version: bytes = b"1.1") -> bytes:
    return b"POST /api/upload?wait=5 HTTP/" + version + b"\r\nHost: x\r\n" + head


def answers(up: Up, sent: bytes) -> bytes:
    """All that comes until the gateway closes."""
    with up.raw() as raw:
        raw.sendall(sent)
        came = b""
        while part := raw.recv(65536):
            came += part
        return came


@pytest.mark.parametrize("parser", ["up", "plain"])
def test_who_says_he_knows_no_chunks_sends_none(request, parser):
    head = b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    came = answers(request.getfixturevalue(parser), whole(head, b"1.0") + INNER)
    assert came.startswith(b"HTTP/1.0 400") and len(ANSWER.findall(came)) == 1, came


@pytest.mark.parametrize("parser", ["up", "plain"])
@pytest.mark.parametrize("head", SMUGGLING.values(), ids=SMUGGLING)
def test_what_two_readers_could_read_differently_is_refused(request, parser, head):
    """One answer, 400, and the connection ends: what follows is read as no request."""
    up = request.getfixturevalue(parser)
    came = answers(up, whole(head) + INNER)
    assert came.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400")), came
    assert len(ANSWER.findall(came)) == 1, came
    up.until(lambda: up.spool_left() == [], "nothing is left of it")


def test_a_bomb_is_not_unpacked(up):
    """200 MB of zeros as 200 KB: refused as encoded, stored as it is where nobody says so."""
    bomb = gzip.compress(bytes(200_000_000), 9)
    gateway = psutil.Process(up.pid("gateway"))
    before = gateway.memory_info().rss
    for encoding in ("gzip", "deflate", "br", "zstd"):
        assert up.upload(bomb, {"Content-Encoding": encoding}).status == 415
    link = up.store(bomb, "gz")
    assert up.get(link).body == bomb
    assert "Content-Encoding" not in up.get(link).headers
    assert gateway.memory_info().rss - before < 64 * 1024 * 1024


def test_ranges_without_end_are_one_answer(up):
    """Never more bytes than the object has, however many ranges are asked for."""
    body = content_of(50_000)
    link = up.store(body)
    for asked in ("0-0," * 1000 + "0-0", "-0", "5-2", "0-" + "9" * 40, "9" * 40 + "-",
                  ",".join(f"{start}-" for start in range(500))):
        answer = up.get(link, {"Range": f"bytes={asked}"})
        assert answer.status in (200, 206, 416), asked
        assert answer.status == 416 or answer.body in (body, b""), asked


@pytest.mark.parametrize("path", [
    "/api/upload?name=a.jpg%0d%0aX-Injected:%201&wait=30",
    "/api/upload?ext=jpg%0d%0aX-Injected:%201", "/api/upload?name=%0d%0aX-Injected:%201.jpg",
    "/%0d%0aX-Injected:%201", "/api/status/%0d%0aX-Injected:%201",
    "/api/exists/%0aX-Injected:%201", "/api/telemetry/a%0d%0aX-Injected:%201",
    "/explorer/%0d%0aX-Injected:%201", "/api/ssh/size/%0d%0aX-Injected:%201",
])
def test_nothing_that_was_sent_becomes_a_header(up, path):
    for method in ("GET", "POST"):
        came = answers(up, f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
                           "Connection: close\r\n\r\n".encode())
        head, _, _ = came.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 ")
        assert b"\r\nX-Injected" not in head and b"\nX-Injected" not in head, came


def test_a_file_name_of_a_form_becomes_no_header(up):
    form = (b'--b\r\nContent-Disposition: form-data; name="file"; '
            b'filename="a%0d%0aX-Injected: 1.jpg"\r\n\r\nhello\r\n--b--\r\n')
    link = up.upload(form, {"Content-Type": "multipart/form-data; boundary=b"}, wait=30).link
    assert link.endswith(".jpg")
    assert "X-Injected" not in up.get(link).headers
