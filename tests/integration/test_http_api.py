"""The HTTP interface of a running zerostor, line by line: what it promises, and what it refuses."""

from __future__ import annotations

import http.client
import json
import random
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes.running_up import Up, content_of, digest
from zerostor.core.checksum import ContentHasher
from zerostor.core.limits import CELL_SIZE, MIB, PACK_OBJECT_MAX

MAX = 41 * MIB
STRIPE = 16 * CELL_SIZE
SIZES = sorted({
    *(cells * 3584 + more for cells in (0, 1, 15, 16, 17) for more in (-1, 0, 1)),
    PACK_OBJECT_MAX - 1, PACK_OBJECT_MAX, PACK_OBJECT_MAX + 1,
    STRIPE - 1, STRIPE, STRIPE + 1, 2 * STRIPE, 40 * MIB,
} - {-1})
"""Around every size at which another way is taken: cells, packs, stripes."""


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    with Up(tmp_path_factory.mktemp("http") / "zerostor",
            f"[gateway]\nmax_upload = {MAX}\n") as running:
        yield running


@pytest.fixture(scope="module")
def stored(up):
    """A link of 100,000 bytes, and those."""
    body = content_of(100_000)
    return up.store(body, "txt"), body


@pytest.fixture(scope="module")
def large(up):
    """A link of five stripes and a bit, and its bytes."""
    body = content_of(2 * STRIPE + 12_345)
    return up.store(body, "mp4"), body


def problem(answer, status, code):
    """The one sentence of an error, which a person can read."""
    assert answer.status == status, (answer.status, answer.body)
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    told = answer.json
    assert (told["status"], told["type"]) == (status, f"urn:zerostor:{code}")
    assert len(told["detail"]) > 8
    return told["detail"]


def hash_of(body: bytes) -> str:
    hasher = ContentHasher()
    hasher.update(body)
    return hasher.digest().hex()


def test_every_size_comes_back_whole_and_under_its_hash(up):
    bodies = [content_of(size) for size in SIZES]
    with ThreadPoolExecutor(4) as pool:
        links = list(pool.map(up.store, bodies))
        got = list(pool.map(up.get, links))
    for body, link, answer in zip(bodies, links, got, strict=True):
        assert link[1:49] == hash_of(body), f"{len(body)} bytes"
        assert digest(answer.body) == digest(body)
        assert int(answer.headers["Content-Length"]) == len(body)
    up.until(lambda: up.spool_left() == [], "the spool is empty")


def test_the_same_bytes_twice_are_two_objects_of_one_hash(up):
    first, second = up.store(b"twice"), up.store(b"twice")
    assert first[:49] == second[:49]
    assert first != second


def test_without_wait_it_is_accepted_and_the_status_says_when_it_is_stored(up):
    body = content_of(300_000)
    with up.stopped("worker"):
        answer = up.upload(body, ext="JPG")
        assert answer.json == {"job": answer.job, "status": f"/api/status/{answer.job}"}
        path = f"/api/status/{answer.job}"
        early = up.get(path)
        assert (early.status, early.body) == (200, b"ACTIVE")
        assert early.headers["Content-Type"].startswith("text/plain")
        assert early.headers["Cache-Control"] == "no-store"
        began = time.monotonic()
        assert up.get(path + "?wait=0.3").body == b"TIMEOUT"
        assert time.monotonic() - began >= 0.3
        found = up.status(answer.job)
        assert found["state"] == "ACTIVE" and found["link"] is found["hash"] is None
        woken = []
        waiter = threading.Thread(target=lambda: woken.append(up.get(path + "?wait=60")))
        waiter.start()
    waiter.join(30)
    link = woken[0].body.decode()
    assert link == f"{hash_of(body)}{link[48:56]}.jpg"
    assert up.get(path).body.decode() == link
    done = up.status(answer.job)
    assert done == {"job": answer.job, "state": "DONE", "progress": 1.0, "link": f"/{link}",
                    "hash": link[:56], "detail": ""}
    assert up.get(f"/{link}").body == body


def test_a_wait_that_ends_too_early_is_answered_with_a_job(up):
    with up.stopped("worker"):
        job = up.upload(b"slow", ext="txt", wait=0.2).job
    assert up.get(up.stored(job)).body == b"slow"


def test_with_wait_a_large_upload_is_stored_when_it_is_answered(up):
    body = content_of(20 * MIB)
    assert digest(up.get(up.store(body)).body) == digest(body)


@pytest.mark.parametrize("query, ext", [
    ({"ext": "jpg"}, ".jpg"), ({"ext": ".JPG"}, ".jpg"), ({"ext": "tar.gz"}, ".tar.gz"),
    ({"ext": "abcdefghijklmnop"}, ".abcdefghijklmnop"), ({}, ""),
    ({"name": "a b.PDF"}, ".pdf"), ({"name": "../../etc/passwd.txt"}, ".txt"),
    ({"name": "C:\\photos\\me.jpeg"}, ".jpeg"), ({"name": ".bashrc"}, ""), ({"name": ""}, ""),
    ({"name": "x.\r\nSet-Cookie: a=b"}, ""), ({"name": "nothing."}, ""), ({"name": "x.\0"}, ""),
    ({"name": "x." + "y" * 17}, ""), ({"name": "ünï.pdf"}, ".pdf"), ({"name": "x.jpg/"}, ""),
    ({"ext": "jpg", "name": "x.png"}, ".jpg"),
])
def test_extension_of_the_link(up, query, ext):
    answer = up.upload(b"named", wait=30, **query)
    assert answer.link == f"/{answer.json['hash']}{ext}"


@pytest.mark.parametrize("ext", [
    "", ".", "..", "../x", "a/b", "a\\b", "a b", "%2e%2e", "a\0", "a\r\nX: y", "ä", "a.", ".a.",
    "abcdefghijklmnopq", "a" * 4000, "a..b", "<b>", "\u202egpj",
])
def test_a_bad_extension_is_refused_and_leaves_nothing(up, ext):
    before = len(up.records())
    assert "extension" in problem(up.upload(b"x", ext=ext), 400, "bad-extension")
    up.until(lambda: up.spool_left() == [], "the spool is empty")
    assert len(up.records()) == before


def test_an_empty_body_is_an_object(up):
    for answer in (up.upload(b"", ext="txt", wait=30), up.upload(iter([b""]), ext="txt", wait=30)):
        got = up.get(answer.link)
        assert (got.status, got.body, got.headers["Content-Length"]) == (200, b"", "0")
        assert up.get(answer.link, {"Range": "bytes=0-0"}).status == 416
        assert up.get(f"/api/check{answer.link}?mode=hard").json["state"] == "healthy"


# Too large, broken off.


def test_too_large_by_its_announcement(up):
    with up.raw() as raw:
        head = b"POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        raw.sendall(head % (MAX + 1))
        assert_told(raw, 413, "too-large")
    up.until(lambda: up.spool_left() == [], "the spool is empty")
    assert up.upload(bytes(MAX), wait=60).status == 200, "the limit itself is fine"


@pytest.mark.parametrize("head, start", [
    (b"", b""),
    (b"Content-Type: multipart/form-data; boundary=b\r\n",
     b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n'),
])
def test_too_large_is_noticed_while_it_streams(up, head, start):
    with up.raw() as raw:
        raw.sendall(b"POST /api/upload?wait=5 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                    + head + b"\r\n")
        for chunk in (start, *[bytes(MIB)] * (MAX // MIB), bytes(MIB // 2)):
            raw.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk) if chunk else b"")
        raw.sendall(b"1\r\n1\r\n")
        assert_told(raw, 413, "too-large")  # though it has not ended
        up.until(lambda: up.spool_left() == [], "nothing is left of it")


def test_expect_continue(up):
    """A client that asks first is told before it sends, and how."""
    ask = b"POST /api/upload?wait=30 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    with up.raw() as raw:
        raw.sendall(ask + b"Content-Length: %d\r\n\r\n" % (MAX + 1))
        assert_told(raw, 413, "too-large")
    with up.raw() as raw:
        raw.sendall(ask + b"Content-Length: 2\r\nContent-Encoding: gzip\r\n\r\n")
        assert_told(raw, 415, "unsupported-media-type")
    with up.raw() as raw:
        raw.sendall(ask + b"Content-Length: 2\r\n\r\n")
        assert raw.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(b"ok")
        assert response_of(raw).status == 200


def test_a_refused_expectation_ends_the_connection(up):
    """Its body was never sent: what comes next must not be taken for it, nor it for a request."""
    with up.raw() as raw:
        raw.sendall(b"POST /api/upload?ext=%%2f HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                    b"Content-Length: %d\r\n\r\n" % (MAX + 1))
        response = response_of(raw)
        assert response.status in (400, 413)
        assert response.getheader("Connection") == "close"


@pytest.mark.parametrize("wait", ["", "&wait=30"])
@pytest.mark.parametrize("size", [10, 4 * MIB, 24 * MIB])
@pytest.mark.parametrize("how", ["length", "chunked"])
def test_a_client_that_hangs_up_leaves_nothing(up, wait, size, how):
    """With wait and a large body the worker is following already."""
    up.until(up.idle, "what others sent is stored")
    before, files = len(objects(up)), shard_files(up)
    announced = b"Transfer-Encoding: chunked" if how == "chunked" else b"Content-Length: 40000000"
    with up.raw() as raw:
        raw.sendall(b"POST /api/upload?ext=bin%s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n"
                    % (wait.encode(), announced))
        body = content_of(size)
        raw.sendall(b"%x\r\n%s\r\n" % (size, body) if how == "chunked" else body)
        if size > MIB:
            up.until(up.spool_left, "it arrives")
        time.sleep(0.05)
        # A reset, as from a cable that was cut, and not an orderly end.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    up.until(lambda: up.spool_left() == [], "the entry is removed")
    up.until(up.idle, "the queue forgets it")
    assert len(objects(up)) == before
    up.until(lambda: shard_files(up) <= files, "no shard of it is left")


def test_an_orderly_end_before_the_announced_length_is_broken_off_too(up):
    before = len(up.records())
    with up.raw() as raw:
        raw.sendall(b"POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nshort")
        raw.shutdown(socket.SHUT_WR)
        assert b" 200 " not in raw.recv(1000)
    up.until(lambda: up.spool_left() == [], "nothing is left of it")
    assert len(up.records()) == before


# Multipart and encodings.


def form(*parts: bytes, end: bytes = b"--b--\r\n") -> bytes:
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end


def part(content: bytes, disposition: str, *headers: str) -> bytes:
    lines = [f"Content-Disposition: form-data; {disposition}", *headers]
    return "".join(line + "\r\n" for line in lines).encode() + b"\r\n" + content


FORM = {"Content-Type": "multipart/form-data; boundary=b"}


def test_multipart(up):
    body = content_of(3 * MIB) + b"\r\n--\r\n--a\r\n"
    answer = up.upload(form(part(b"before", 'name="note"'),
                            part(body, 'name="file"; filename="a/b/Photo.JPG"')), FORM, wait=30)
    assert answer.link.endswith(".jpg")
    assert digest(up.get(answer.link).body) == digest(body)
    named = up.upload(form(part(b"x", 'name="file"; filename="a.jpg"')), FORM, ext="png", wait=30)
    assert named.link.endswith(".png"), "what the address says goes before the form"
    bare = up.upload(form(part(b"", 'name="file"')), FORM, wait=30)
    assert up.get(bare.link).body == b""


@pytest.mark.parametrize("name, ext", [
    ('"x.\\"y\\".pdf"', ".pdf"), ('"..%2f..%2fx.sh"', ".sh"), ('"x.j\tpg"', ""),
    ('"x\0.jpg"', None), ('"' + "z" * 3000 + '.gif"', ".gif"), ("x.jpg", ".jpg"), ('"x.php/."', ""),
])
def test_file_names_of_a_form_are_only_looked_at_for_their_extension(up, name, ext):
    answer = up.upload(form(part(b"x", f'name="file"; filename={name}')), FORM, wait=30)
    if answer.status == 400:
        problem(answer, 400, "bad-request")
        assert ext is None
    else:
        assert ext is None or answer.link == f"/{answer.json['hash']}{ext}"
        assert set(answer.link[1:]) <= set("0123456789abcdefghijklmnopqrstuvwxyz.")


@pytest.mark.parametrize("headers, body", [
    pytest.param({"Content-Type": "multipart/form-data"}, form(part(b"x", 'name="file"')),
                 id="no boundary"),
    pytest.param({"Content-Type": "multipart/form-data; boundary=" + "b" * 100},
                 form(part(b"x", 'name="file"')), id="long boundary"),
    pytest.param({"Content-Type": "multipart/form-data; boundary=other"},
                 form(part(b"x", 'name="file"')), id="another boundary"),
    pytest.param(FORM, b"", id="empty"),
    pytest.param(FORM, b"just text", id="no form"),
    pytest.param(FORM, form(), id="no parts"),
    pytest.param(FORM, form(part(b"x", 'name="photo"')), id="no file"),
    pytest.param(FORM, form(part(b"x", 'name="file"'))[:20], id="cut in a header"),
    pytest.param(FORM, form(part(b"cut" * 1000, 'name="file"'), end=b"")[:-2], id="cut"),
    pytest.param(FORM, form(part(b"cut" * 500_000, 'name="file"'), end=b"")[:-2], id="cut late"),
    pytest.param(FORM, form(part(b"x", 'name="file"'), end=b""), id="never ends"),
    pytest.param(FORM, form(part(b"x", 'name="file"', "A: " + "b" * 100_000)), id="huge header"),
    pytest.param(FORM, form(part(b"x", 'name="file"', *["A: b"] * 5000)), id="many headers"),
    pytest.param(FORM, form(*[part(b"x", f'name="n{n}"') for n in range(3000)]), id="many parts"),
    pytest.param(FORM, form(part(b"x", 'name="file"', "Content-Encoding: gzip")), id="gzip part"),
    pytest.param(FORM, form(part(b"x", 'name="file"', "Content-Transfer-Encoding: base64")),
                 id="base64 part"),
    pytest.param({"Content-Type": "multipart/mixed; boundary=b"},
                 form(part(b"x", 'name="file"', "Content-Length: 100")), id="false length"),
    pytest.param({"Content-Type": "multipart/mixed; boundary=b"},
                 form(part(b"x", 'name="file"', "Content-Length: +1")), id="no length"),
    pytest.param(FORM, form(part(b"x" * 40, 'name="_charset_"')), id="odd charset"),
    pytest.param(FORM, form(*[b"Content-Type: multipart/mixed; boundary=b\r\n"] * 3000),
                 id="nested deeply"),
    pytest.param({"Content-Type": "multipart/mixed; boundary=b"},
                 form(b"Content-Type: multipart/mixed; boundary=c\r\n\r\n--c--\r\n"), id="nested"),
    pytest.param({"Content-Type": "multipart/"}, b"x", id="no kind"),
])
def test_a_form_that_makes_no_sense_is_refused_and_leaves_nothing(up, headers, body):
    before = len(up.records())
    problem(up.upload(body, headers, wait=10), 400, "bad-request")
    up.until(lambda: up.spool_left() == [], "the spool is empty")
    assert len(up.records()) == before


@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, identity", "x"])
def test_encoded_bodies_are_refused(up, encoding):
    told = problem(up.upload(b"x", {"Content-Encoding": encoding}), 415, "unsupported-media-type")
    assert "Content-Encoding" in told
    assert up.upload(b"x", {"Content-Encoding": "Identity"}, wait=30).status == 200


# Fetching.


def test_headers_of_an_object(up, stored):
    link, body = stored
    for answer in (up.get(link), up.ask("HEAD", link)):
        headers = answer.headers
        assert answer.status == 200
        assert headers["Content-Length"] == str(len(body))
        assert headers["ETag"] == f'"{link[1:57]}"'
        assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert headers["Content-Type"].startswith("text/plain")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Accept-Ranges"] == "bytes"
        assert "sandbox" in headers["Content-Security-Policy"]
        assert headers["Last-Modified"].endswith(" GMT")
    assert answer.body == b""
    assert up.get(link[:57]).body == body, "without the extension"
    assert up.get(link[:57].upper() + ".anything").body == body


def test_html_cannot_act_as_this_origin(up):
    link = up.store(b"<script>alert(1)</script>", "html")
    assert "sandbox" in up.get(link).headers["Content-Security-Policy"]


def test_if_none_match(up, stored):
    link, body = stored
    tag = f'"{link[1:57]}"'
    for header in (tag, f"W/{tag}", "*", f'"other", {tag}'):
        for method in ("GET", "HEAD"):
            answer = up.ask(method, link, None, {"If-None-Match": header})
            assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", tag)
    for header in ('"other"', "", "nonsense", tag[:-2] + '"'):
        assert up.get(link, {"If-None-Match": header}).body == body


def test_if_modified_since(up, stored):
    link, body = stored
    tag, stored_at = f'"{link[1:57]}"', up.get(link).headers["Last-Modified"]
    for since, status in ((stored_at, 304), ("Fri, 01 Jan 2100 00:00:00 GMT", 304),
                          ("Sat, 01 Jan 2000 00:00:00 GMT", 200), ("nonsense", 200), ("", 200)):
        assert up.get(link, {"If-Modified-Since": since}).status == status, since
    both = {"If-Modified-Since": stored_at, "If-None-Match": '"other"'}
    assert up.get(link, both).body == body, "the tag alone counts (RFC 9110, 13.1.3)"
    both["If-None-Match"] = tag
    assert up.get(link, both).status == 304


@pytest.mark.parametrize("asked, start, end", [
    ("bytes=0-0", 0, 1), ("bytes=0-", 0, None), ("bytes=10-19", 10, 20), ("bytes=-1", -1, None),
    ("bytes=99999-", 99_999, None), ("bytes=50000-999999999999", 50_000, None),
    ("bytes=-999999999", 0, None), ("BYTES=1-2", 1, 3), ("bytes= 1 - 2 ", 1, 3),
    ("bytes=0-18446744073709551615", 0, None),
])
def test_a_range_is_served(up, stored, asked, start, end):
    link, body = stored
    wanted = body[start:end]
    first = start % len(body)
    answer = up.get(link, {"Range": asked})
    assert (answer.status, answer.body) == (206, wanted)
    assert answer.headers["Content-Range"] == (
        f"bytes {first}-{first + len(wanted) - 1}/{len(body)}")
    head = up.ask("HEAD", link, None, {"Range": asked})
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(body))), "RFC 9110, 14.2"


@pytest.mark.parametrize("asked", ["bytes=100000-", "bytes=100000-100001", "bytes=-0",
                                   "bytes=99999999999999999999-"])
def test_a_range_beyond_the_end_is_416(up, stored, asked):
    answer = up.get(stored[0], {"Range": asked})
    assert "100000 bytes" in problem(answer, 416, "range-not-satisfiable")
    assert answer.headers["Content-Range"] == "bytes */100000"
    assert answer.headers["Cache-Control"] is None, "a cache would keep it in place of the object"
    assert answer.headers["ETag"] is None


@pytest.mark.parametrize("asked", [
    "bytes=", "bytes=-", "bytes=5-2", "bytes=1-2,5-6", "lines=1-2", "bytes=a-b", "bytes", "",
    "bytes=--1", "bytes=1-2-3", "bytes=0x1-2", "bytes=\u0661-\u0662", "bytes=" + "9" * 5000 + "-",
    "bytes=" + ",".join(f"{n}-{n}" for n in range(1000)), "bytes=-" + "9" * 30,
])
def test_a_range_that_makes_no_sense_is_ignored(up, stored, asked):
    link, body = stored
    answer = up.get(link, {"Range": asked.encode().decode("latin-1")})
    assert (answer.status, digest(answer.body)) == (200, digest(body))


def test_if_range(up, stored):
    link, body = stored
    tag = f'"{link[1:57]}"'
    assert up.get(link, {"Range": "bytes=0-1", "If-Range": tag}).body == body[:2]
    assert up.get(link, {"Range": "bytes=0-1", "If-Range": '"other"'}).body == body


def test_ranges_of_a_large_object(up, large):
    link, body = large
    size, rng = len(body), random.Random(3)
    edges = [0, 1, CELL_SIZE - 1, CELL_SIZE, STRIPE - 1, STRIPE, 2 * STRIPE, size - 1]
    pairs = [(edge, min(size, edge + length)) for edge in edges for length in (1, 2, CELL_SIZE + 1)]
    for _ in range(30):
        start = rng.randrange(size)
        pairs.append((start, rng.randrange(start, size) + 1))
    for start, end in pairs:
        answer = up.get(link, {"Range": f"bytes={start}-{end - 1}"})
        assert answer.status == 206
        assert digest(answer.body) == digest(body[start:end]), (start, end)


def test_a_client_that_leaves_in_the_middle_of_a_download_costs_nothing(up, large):
    link, body = large
    for _ in range(12):
        with up.raw() as raw:
            raw.sendall(f"GET {link} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            raw.recv(100_000)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert digest(up.get(link).body) == digest(body)


def test_exists_and_check(up, stored):
    link, body = stored
    found = up.get(f"/api/exists{link[:57]}").json
    assert found["hash"] == link[1:57] and found["link"] == link
    assert (found["size"], found["ext"], found["policy"]) == (len(body), "txt", "default")
    soft = up.get(f"/api/check{link[:57]}").json
    hard = up.get(f"/api/check{link[:57]}?mode=hard").json
    for report, mode, content in ((soft, "soft", None), (hard, "hard", "good")):
        assert (report["mode"], report["content"], report["state"]) == (mode, content, "healthy")
        assert (report["good"], report["needed"], report["total"]) == (20, 16, 20)
        assert [shard["index"] for shard in report["shards"]] == list(range(20))
        assert len({shard["store"] for shard in report["shards"]}) == 20
    problem(up.get(f"/api/check{link[:57]}?mode=medium"), 400, "bad-request")


NO_HASHES = ["a" * 55, "a" * 57, "g" * 56, "", "a" * 56 + ".", "a" * 56 + ".a/b", "%00" * 56,
             "a" * 56 + "." + "b" * 17, "é" * 56, "0x" + "a" * 54, "a" * 5000, "\u0663" * 56]


@pytest.mark.parametrize("text", NO_HASHES)
def test_what_is_no_hash(up, text):
    quoted = text if text.isascii() else text.encode().hex("%", 1)
    if text and "/" not in text:
        for path in ("/", "/api/exists/", "/api/check/"):
            answer = up.get(path + ("%" + quoted if quoted != text else text))
            assert answer.status == 400, (path, answer.body)
            assert answer.json["type"] in ("urn:zerostor:bad-link", "urn:zerostor:bad-extension")


def test_unknown_hashes_and_jobs(up, stored):
    link, _ = stored
    content, number = link[1:49], int(link[49:57], 16)
    wrong = [f"{content}{number ^ 1:08x}", f"{content}ffffffff", f"{'0' * 48}{number:08x}",
             f"{content[:-1]}{'0' if content[-1] != '0' else '1'}{number:08x}", "0" * 56, "f" * 56]
    for text in wrong:
        for path in ("/", "/api/exists/", "/api/check/"):
            problem(up.get(f"{path}{text}"), 404, "unknown-object")
    for job in ("0" * 32, "0" * 31, "x", "A" * 32, "..%2f..%2fx", "%00", "a" * 5000):
        problem(up.get(f"/api/status/{job}"), 404, "unknown-job")
        problem(up.ask("POST", f"/api/jobs/{job}/requeue"), 404, "unknown-job")


@pytest.mark.parametrize("wait", ["-1", "nan", "inf", "x", "", "1e999", "0x10"])
def test_a_wait_that_is_none(up, wait):
    problem(up.get(f"/api/status/{'0' * 32}?wait={wait}"), 400, "bad-request")
    problem(up.upload(b"x", wait=wait), 400, "bad-request")
    up.until(lambda: up.spool_left() == [], "the spool is empty")


def test_paths_that_are_not_there(up):
    problem(up.get("/api/nothing"), 404, "not-found")
    problem(up.get("/favicon.ico"), 400, "bad-link")
    for path in ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/explorer/..%2fcli.py",
                 "/explorer/%2e%2e%2fapp.py"):
        assert up.get(path).status in (400, 404), path
    refused = up.ask("PUT", "/api/upload", b"")
    problem(refused, 405, "method-not-allowed")
    assert refused.headers["Allow"] == "POST"
    problem(up.ask("DELETE", "/" + "a" * 56), 405, "method-not-allowed")


# Connections.


def response_of(raw: socket.socket) -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(raw)
    response.begin()
    return response


def assert_told(raw: socket.socket, status: int, code: str) -> None:
    response = response_of(raw)
    told = json.loads(response.read())
    assert response.status == told["status"] == status, told
    assert told["type"] == f"urn:zerostor:{code}"


def test_keep_alive_and_pipelining(up, stored):
    link, body = stored
    connection = http.client.HTTPConnection("127.0.0.1", up.port, timeout=30)
    for number in range(20):
        connection.request("POST", "/api/upload?wait=30", b"%d" % number)
        made = json.loads(connection.getresponse().read())["link"]
        connection.request("GET", made)
        assert connection.getresponse().read() == b"%d" % number
    connection.close()
    with up.raw() as raw, raw.makefile("rb") as reader:
        upload = b"POST /api/upload?wait=30 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"
        get = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % link.encode()
        raw.sendall(upload + b"one" + get + upload + b"two" + get)
        kinds = [_read_one(reader) for _ in range(4)]
    assert kinds[1] == kinds[3] == body
    for answer, sent in ((kinds[0], b"one"), (kinds[2], b"two")):
        assert up.get(json.loads(answer)["link"]).body == sent


def _read_one(reader) -> bytes:
    assert reader.readline() == b"HTTP/1.1 200 OK\r\n"
    length = 0
    while (line := reader.readline()) != b"\r\n":
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return reader.read(length)


@pytest.mark.parametrize("head", [
    b"Content-Length: -1", b"Content-Length: 1\r\nContent-Length: 2", b"Content-Length: 0x10",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked",
    b"X: a\0b", b"X " + b"a" * 70_000 + b": b", b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
])
def test_requests_that_are_no_http_are_refused_and_leave_nothing(up, head):
    before = len(up.records())
    with up.raw() as raw:
        raw.sendall(b"POST /api/upload?wait=5 HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\nhello")
        answer = raw.recv(1000)
        assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")) or not answer, answer
    up.until(lambda: up.spool_left() == [], "nothing is left of it")
    assert len(up.records()) == before


def test_many_clients_at_once_each_get_their_own_bytes(up):
    """Uploads with and without wait, downloads, ranges and checks, all mixed."""
    def client(number: int) -> int:
        rng, done = random.Random(number), 0
        for turn in range(6):
            size = rng.choice([0, 1, 700, 20_000, 200_000, 1_500_000, 3_000_000])
            body = content_of(size, number * 100 + turn)
            answer = up.upload(body, ext="bin", wait=rng.choice([0, 60]))
            link = answer.link if answer.status == 200 else up.stored(answer.job)
            assert link[1:49] == hash_of(body)
            assert digest(up.get(link).body) == digest(body), (number, turn)
            if size:
                start = rng.randrange(size)
                assert up.get(link, {"Range": f"bytes={start}-"}).body == body[start:]
            report = up.get(f"/api/check{link[:57]}").json
            assert report["state"] == "healthy"
            done += 1
        return done

    with ThreadPoolExecutor(32) as pool:
        assert sum(pool.map(client, range(32))) == 192
    up.until(up.idle, "nothing is left to do")
    assert up.spool_left() == []
    jobs = [record.job for record in up.records()]
    assert len(jobs) == len(set(jobs)), "one record per job"


def objects(up: Up) -> set[str]:
    return {record.job for record in up.records()}


def shard_files(up: Up) -> set[str]:
    """Shards, and parts of them."""
    found = (up.folder / "stores").rglob("*-*")
    return {str(path) for path in found if path.is_file()}
