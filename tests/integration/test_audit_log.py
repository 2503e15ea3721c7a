"""The audit log of a running zerostor, and the ids of its requests."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.fakes.running_up import ROOT, Up, content_of

SECRET = "a-secret-that-is-in-no-log-of-ours"
BEARER = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    (folder / "secret").write_text(SECRET)
    settings = (f'[gateway]\nsecurity = "secret"\nsecret_file = "{folder}/secret"\n'
                'trusted_proxies = "127.0.0.1"\n')
    with Up(folder / "zerostor", settings) as running:
        yield running


def lines(up):
    log = up.folder / "logs" / "audit.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def line_of(up, answer):
    """What was written down of the request with this answer."""
    name = answer.headers["X-Request-Id"]
    return up.until(lambda: [line for line in lines(up) if line["request"] == name],
                    "its line is written")[0]


def test_an_upload_is_written_down(up):
    answer = up.upload(content_of(5000), BEARER | {"X-Forwarded-For": "203.0.113.7"}, ext="bin",
                       wait=60)
    line = line_of(up, answer)
    assert {name: line[name] for name in ("who", "role", "address", "method", "route", "status",
                                          "received", "sent")} == {
        "who": "secret", "role": "admin", "address": "203.0.113.7", "method": "POST",
        "route": "/api/upload", "status": 200, "received": 5000, "sent": len(answer.body)}
    assert line["on"] == {"job": answer.json["job"], "object": answer.link[1:]}
    assert line["ms"] > 0


def test_who_was_refused_is_written_down_and_what_he_reads_is_not(up):
    read = up.get("/healthz")
    refused = up.get("/api/jobs", {"Authorization": "Bearer wrong-and-long-enough"})
    assert refused.status == 401
    line = line_of(up, refused)
    assert (line["status"], line["route"], line.get("who", "")) == (401, "/api/jobs", "")
    assert not [line for line in lines(up) if line["request"] == read.headers["X-Request-Id"]]


def test_a_body_that_is_refused_before_it_comes_is_written_down(up):
    with up.raw() as stranger:
        stranger.sendall(b"POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
                         b"Expect: 100-continue\r\nX-Request-Id: told-by-a-proxy\r\n\r\n")
        assert b" 401 " in stranger.recv(4096)
    up.until(lambda: [line for line in lines(up) if line["request"] == "told-by-a-proxy"], "line")


@pytest.mark.parametrize(("told", "kept"), [
    ("0af7651916cd43dd", True), ("a b", False), ("short", False), ("x" * 65, False),
    ("quote\"quote", False), ("ünicode-ünicode", False)])
def test_a_trusted_proxy_names_requests_sanely(up, told, kept):
    answer = up.get("/api/jobs/none", {"X-Request-Id": told.encode()})
    assert (answer.headers["X-Request-Id"] == told) == kept
    assert answer.json["request"] == answer.headers["X-Request-Id"]


def test_every_answer_has_an_id_of_its_own(up):
    link = up.upload(content_of(3_000_000), BEARER, wait=60).link
    paths = ("/", "/healthz", "/none", "/api/jobs", link, "/explorer/explorer.js", "/%00")
    names = [up.get(path).headers["X-Request-Id"] for path in paths for _ in range(2)]
    with up.raw() as keeper, keeper.makefile("rb") as answers:
        for path in paths[:4]:
            keeper.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = dict(line.split(b": ", 1) for line in iter(answers.readline, b"\r\n")
                        if b": " in line)
            names.append(head[b"X-Request-Id"].decode().strip())
    assert all(names)
    assert len(set(names)) == len(names)
    with up.raw() as stranger:
        stranger.sendall(b"THIS IS NO HTTP\r\n\r\n")
        assert b"X-Request-Id: " in stranger.recv(4096)


def test_the_command_shows_it(up):
    def shown(*words):
        done = subprocess.run([sys.executable, "-m", "gateway", "audit", "--data", str(up.folder),
                               "--config", str(up.settings), *words], cwd=ROOT, timeout=60,
                              env=os.environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    line_of(up, up.upload(b"x", BEARER))
    assert "secret (admin)" in shown()
    assert [json.loads(line) for line in shown("--json", "--lines", "1").splitlines()] == (
        lines(up)[-1:])


def test_the_command_follows_over_rotations(up):
    log = up.folder / "logs" / "audit.jsonl"
    with subprocess.Popen([sys.executable, "-m", "gateway", "audit", "--data", str(up.folder),
                           "--config", str(up.settings), "--follow", "--json", "--lines", "1"],
                          cwd=ROOT, stdout=subprocess.PIPE, text=True) as following:
        try:
            assert following.stdout is not None
            following.stdout.readline()
            line_of(up, first := up.upload(b"1", BEARER))
            os.rename(log, f"{log}.1")
            line_of(up, second := up.upload(b"2", BEARER))
            told = [json.loads(following.stdout.readline())["request"] for _ in range(2)]
            assert told == [answer.headers["X-Request-Id"] for answer in (first, second)]
        finally:
            following.kill()
