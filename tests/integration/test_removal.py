"""Removed objects of a running zerostor: what everybody sees from then on, and the way back."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.running_up import ROOT, Answer, Up, content_of
from tests.integration.test_keys_mode import ANNA, BOB, BOSS, Keyed, line
from tests.integration.test_slave import settings, url_of
from zerostor.core.sign_in import Role

JSON = {"Content-Type": "application/json"}
SMALL, LARGE = 3000, 2_500_000


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with Up(tmp_path_factory.mktemp("removal") / "up") as running:
        yield running


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    folder = tmp_path_factory.mktemp("removal-keys")
    running = Keyed(folder / "up", f'[gateway]\nsecurity = "keys"\nkeys_file = "{folder}/up.keys"')
    running.list.write_text(line(BOSS, "boss", Role.ADMIN) + line(ANNA, "anna") + line(BOB, "bob"))
    with running:
        yield running


def remove(up: Up, link: str, headers: dict[str, str] | None = None) -> Answer:
    return up.ask("DELETE", f"/api/objects{link}", None, headers)


def act(up: Up, link: str, verb: str, headers: dict[str, str] | None = None) -> Answer:
    return up.ask("POST", f"/api/objects{link}/{verb}", b"{}", JSON | (headers or {}))


def is_dark(up: Up, link: str) -> bool:
    """Whether everything that is asked about it answers 410, and nothing else does."""
    digest = link[1:57]
    asked: list[Answer] = [
        up.get(link), up.get(f"/{digest}"), up.ask("HEAD", link), up.get(f"/api/exists/{digest}"),
        up.get(f"/api/check/{digest}"), up.get(f"/api/check/{digest}?mode=hard"),
        up.get(link, {"Range": "bytes=0-9"}), up.get(link, {"If-None-Match": f'"{digest}"'}),
        up.get(link, {"If-Modified-Since": "Fri, 31 Dec 2100 00:00:00 GMT"})]
    if {answer.status for answer in asked} != {410}:
        return False
    for answer in asked:
        assert answer.headers["Cache-Control"] == "no-store"
        assert "ETag" not in answer.headers
        assert not answer.body or answer.json["type"] == "urn:zerostor:removed"
    return True


def zerostor(up: Up, *words: str, code: int = 0) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", *words, "--server", f"http://127.0.0.1:{up.port}"],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)
    assert ended.returncode == code, (ended.stdout, ended.stderr)
    return ended.stdout + ended.stderr


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("private", ["0", "1"])
def test_there_and_back(up: Up, size: int, private: str) -> None:
    body = content_of(size, seed=int(private))
    link = up.upload(body, ext="bin", wait=60, private=private).link
    job = up.upload(content_of(size, seed=9), ext="txt").job
    other = up.stored(job)
    assert up.get(link).body == body
    gone = remove(up, link)
    assert gone.status == 200, gone.body
    assert (gone.json["state"], gone.json["size"], gone.json["private"]) == (
        "removed", size, private == "1")
    assert gone.json["until"] > gone.json["at"]
    assert is_dark(up, link)
    assert remove(up, link).json == gone.json
    wrong = f"/{'0' * 48}{link[49:57]}"
    assert up.get(wrong).status == 404 == remove(up, wrong).status == act(
        up, wrong, "restore").status
    rows = up.get("/api/removed").json["removed"]
    assert [row["link"] for row in rows] == [link]
    back = act(up, link, "restore")
    assert (back.status, back.json["state"]) == (200, "stored"), back.body
    assert up.get(link).body == body
    assert up.get(link, {"Range": "bytes=5-8"}).body == body[5:9]
    assert remove(up, other).status == 200
    answer = up.get(f"/api/status/{job}")
    assert (answer.status, answer.json["type"]) == (410, "urn:zerostor:removed")
    assert act(up, other, "restore").status == 200
    assert up.get(f"/api/status/{job}").body.decode() == other[1:]
    assert up.get("/api/removed").json == {"removed": [], "next": None}


def test_a_download_that_is_under_way_ends_well(up: Up) -> None:
    body = content_of(9_000_000)
    link = up.store(body)
    connection = http.client.HTTPConnection("127.0.0.1", up.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", link)
        response = connection.getresponse()
        first = response.read(100_000)
        assert remove(up, link).status == 200
        assert is_dark(up, link)
        assert first + response.read() == body


def test_a_quarantine(up: Up) -> None:
    link = up.store(content_of(SMALL, seed=3))
    held = act(up, link, "quarantine")
    assert (held.status, held.json["state"], held.json["until"]) == (200, "quarantined", None)
    assert is_dark(up, link)
    refused = act(up, link, "restore")
    assert (refused.status, refused.json["type"]) == (409, "urn:zerostor:wrong-state")
    assert act(up, link, "release").json["state"] == "stored"
    assert up.get(link).status == 200


def test_what_no_request_is(up: Up) -> None:
    link = up.store(content_of(SMALL, seed=4))
    digest = link[1:57]
    for path in ("/api/objects/xyz", f"/api/objects/{digest[:-1]}", f"/api/objects/{digest}.e!"):
        assert up.ask("DELETE", path).status == 400
        assert up.ask("POST", f"{path}/restore", b"{}", JSON).status == 400
    for path in ("?from=x", "?from=-1", f"?from={2**32}", "?limit=1001", "?from=" + "9" * 5000):
        assert up.get(f"/api/removed{path}").status == 400
    for body in (b"[", b'{"a": 1}', b"[]", b"x" * 100_000):
        assert up.ask("POST", f"/api/objects{link}/restore", body, JSON).status in (400, 413)
    assert up.ask("POST", f"/api/objects{link}/quarantine", b"", {}).status == 400
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"},
                    {"X-Forwarded-For": "10.0.0.5"}):
        assert remove(up, link, headers).status == 403
        assert up.get("/api/removed", headers).status == 403
    assert up.get(link).status == 200


def test_it_stands_in_the_audit_log(up: Up) -> None:
    link = up.store(content_of(SMALL, seed=5))
    assert remove(up, link).status == 200
    log = up.folder / "logs" / "audit.jsonl"

    def told() -> list[dict[str, Any]]:
        lines = [json.loads(text) for text in log.read_text().splitlines()]
        return [row for row in lines if row.get("method") == "DELETE"
                and link[1:57] in json.dumps(row)]

    row, = up.until(told, "it is written down")
    assert (row["route"], row["status"]) == ("/api/objects/{hash}", 200)


def test_by_the_command_line(up: Up) -> None:
    links = [up.store(content_of(SMALL, seed=seed)) for seed in (6, 7)]
    assert "removed, can be restored until" in zerostor(up, "rm", "--yes", *links)
    assert all(is_dark(up, link) for link in links)
    listed = zerostor(up, "rm", "--list")
    assert all(link[1:] in listed for link in links) and "23h59m" in listed
    assert zerostor(up, "exists", links[0], code=1) == "removed\n"
    assert "was removed" in zerostor(up, "get", links[0], "-o", "-", code=1)
    assert "stored" in zerostor(up, "restore", *links)
    unknown = "0" * 56
    told = zerostor(up, "quarantine", "--json", unknown, links[0], code=1)
    assert "no object has this hash" in told and '"quarantined"' in told
    assert is_dark(up, links[0]) and not is_dark(up, links[1])
    zerostor(up, "restore", links[0], code=1)
    assert "stored" in zerostor(up, "quarantine", "--release", links[0])
    zerostor(up, "rm", code=2)
    zerostor(up, "rm", "--list", links[0], code=2)
    zerostor(up, "rm", "--yes", "nonsense", links[0], code=2)
    zerostor(up, "rm", links[0], code=1)
    assert up.get(links[0]).status == 200, "nobody said yes"


def test_who_may(keyed: Keyed) -> None:
    boss, anna, bob = map(keyed.sign_in, (BOSS, ANNA, BOB))
    link = keyed.upload(content_of(SMALL), anna, ext="bin", wait=60).link
    large = keyed.upload(content_of(LARGE), anna, ext="bin", wait=60).link
    for one in (link, large):
        assert keyed.get(f"/api/check{one}").json["state"] == "healthy"
        assert remove(keyed, one).status == 401
        assert remove(keyed, one, bob).status == 403
        assert remove(keyed, one, anna).json["by"] == bytes(ANNA.verify_key).hex()
        assert act(keyed, one, "restore", bob).status == 403
        assert act(keyed, one, "restore", anna).status == 200
        assert act(keyed, one, "quarantine", anna).status == 403
        assert remove(keyed, one, boss).status == 200
        assert act(keyed, one, "restore", anna).status == 403
        assert keyed.get("/api/removed", anna).status == 403
        rows = keyed.get("/api/removed", boss).json["removed"]
        assert [(row["link"], row["by"]) for row in rows] == [
            (one, bytes(BOSS.verify_key).hex())]
        assert act(keyed, one, "restore", boss).status == 200
    assert {record.owner for record in keyed.records()} == {bytes(ANNA.verify_key).hex()}


def test_on_a_slave_at_once(tmp_path: Path) -> None:
    with contextlib.ExitStack() as both:
        master = both.enter_context(Up(tmp_path / "m"))
        slave = both.enter_context(
            Up(tmp_path / "s", settings(master.folder / "stores", url_of(master))))
        job = master.upload(content_of(SMALL), ext="bin").job
        link = master.stored(job)
        slave.until(lambda: slave.get(link).status == 200, "the slave has it")
        assert slave.ask("DELETE", f"/api/objects{link}").status == 503
        assert remove(master, link).status == 200
        slave.until(lambda: is_dark(slave, link), "the slave knows")
        slave.until(lambda: slave.get(f"/api/status/{job}").status == 410, "of its job as well")
        master.kill_all()
        assert is_dark(slave, link)
        master.start()
        assert act(master, link, "restore").status == 200
        slave.until(lambda: slave.get(link).status == 200, "it is back")
