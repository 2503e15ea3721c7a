"""A running zerostor with SSH homes: asked over HTTP, filled by sftp, stored, killed, served."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.running_homes import JSON, RunningHomes
from tests.fakes.running_up import Up, content_of
from tests.unit.test_openapi import check, resolve

SETTINGS = '[gateway]\nmax_upload = "1MB"\npublic_url = "https://files.example"\n'


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHomes]:
    with contextlib.ExitStack() as stack:
        up = Up(tmp_path_factory.mktemp("homes") / "zerostor", SETTINGS)
        stack.callback(up.close)
        up.start()
        running = RunningHomes(up)
        stack.callback(running.close)
        running.start()
        yield running


def fits(answer: object, schema: str) -> None:
    check(answer, resolve(f"#/components/schemas/{schema}"))


def until(true: Any, what: str) -> Any:
    end = time.monotonic() + 60
    while not (found := true()):
        assert time.monotonic() < end, what
        time.sleep(0.1)
    return found


def test_from_sftp_to_a_link(homes: RunningHomes) -> None:
    """More than gateway.max_upload: the limit of a home is its own."""
    body = content_of(3_000_001)
    home = homes.enable("ann", max_size_mb=20)
    fits(home, "HomeEnabled")
    assert (home["limit"], home["used"]) == (20_000_000, 0)
    homes.put("ann", "film.mkv", body)
    fits(homes.get("size/ann"), "HomeSize")
    assert homes.get("size/ann")["used"] == len(body)
    job = homes.process_path("ann", "/film.mkv", remove=True)
    assert homes.up.status(job)["state"] in ("ACTIVE", "DONE")
    link = homes.up.stored(job)
    assert link.endswith(".mkv")
    assert homes.up.get(link).body == body
    until(lambda: homes.get("size/ann")["used"] == 0, "the file goes once it is stored")
    links, events = homes.get("links/ann"), homes.get("events/ann")
    fits(links, "HomeLinks")
    fits(events, "HomeEvents")
    assert [one["link"] for one in links["links"]] == [link]
    assert [one["kind"] for one in events["events"]] == ["stored"]
    fits(homes.get("homes"), "Homes")


def test_a_key_comes_and_goes_at_once(homes: RunningHomes) -> None:
    home = homes.enable("key")
    again = homes.enable("key", max_size_mb=2.5, quota="drop-oldest")
    assert again["keys"] == home["keys"], "the same key once more is no second key"
    assert (again["limit"], again["quota"]) == (2_500_000, "drop-oldest")
    assert again["keys"][0]["comment"] == "ann at home"
    assert homes.sftp("key", "ls").returncode == 0
    closed = homes.post("disable", username="key", fingerprint=home["keys"][0]["fingerprint"])
    fits(closed.json, "HomeDisabled")
    assert homes.sftp("key", "ls").returncode != 0
    homes.enable("key")
    assert homes.sftp("key", "ls").returncode == 0
    assert homes.post("disable", username="key").json["files_stay_in"].endswith("/homes/key")
    assert homes.sftp("key", "ls").returncode != 0


@pytest.mark.parametrize("body,said", [
    ({"username": "../x"}, "user name"),
    ({"username": "new"}, "public key"),
    ({"username": "new", "sshpubkey": "ssh-dss AAAA"}, "DSA"),
    ({"username": "new", "sshpubkey": "ssh-ed25519 AAAA"}, "damaged"),
    ({"username": "new", "max_size_mb": 0}, "max_size_mb"),
    ({"username": "new", "max_size_mb": -1}, "max_size_mb"),
    ({"username": "new", "max_size_mb": 1e300}, "max_size_mb"),
    ({"username": "new", "max_size_mb": "5"}, "float"),
    ({"username": "new", "quota": "all"}, "drop-oldest"),
    ({"username": "new", "auto_process": {"quiet": -1}}, "quiet"),
    ({"username": "new", "auto_process": {"qiet": 1}}, "qiet"),
    ({"user": "new", "username": "new"}, "user"),
    ({"user": ""}, "user"),
    ({}, "username"),
])
def test_what_cannot_be_understood_is_refused(
        homes: RunningHomes, body: dict[str, object], said: str) -> None:
    answer = homes.post("enable", **body)
    assert answer.status == 400
    assert said in answer.json["detail"]
    assert not any(home["user"] == "new" for home in homes.get("homes")["homes"])


def test_who_is_meant_is_said_by_either_word(homes: RunningHomes) -> None:
    homes.enable("words")
    (homes.folder("words") / "x").write_bytes(b"x")
    for word in ("user", "username"):
        assert homes.post("enable", sshpubkey=homes.public, **{word: "words"}).status == 200
        assert homes.post("process", path="/x", **{word: "words"}).status == 202
        assert homes.post("disable", **{word: "words"}).json["enabled"] is False


def test_a_link_that_was_removed_is_listed_as_such(homes: RunningHomes) -> None:
    homes.enable("remover")
    for name in ("gone", "kept"):
        (homes.folder("remover") / name).write_bytes(name.encode())
        homes.up.stored(homes.process_path("remover", f"/{name}"))
    links = {link["path"]: link for link in homes.get("links/remover")["links"]}
    assert not any(link["removed"] for link in links.values())
    answer = homes.up.ask("DELETE", f"/api/objects/{links['/gone']['hash']}")
    assert answer.status == 200, answer.body
    listed = homes.get("links/remover")["links"]
    assert {link["path"]: link["removed"] for link in listed} == {"/gone": True, "/kept": False}


@pytest.mark.parametrize("number", ["-1", "x", "", "1" * 20, "0" * 20 + "9" * 30, "1" * 5000])
def test_numbers_that_are_none(homes: RunningHomes, number: str) -> None:
    homes.enable("numbers")
    answer = homes.up.get(f"/api/ssh/links/numbers?before={number}")
    assert answer.status == 400, answer.body


def test_a_private_key_is_refused_and_repeated_nowhere(homes: RunningHomes) -> None:
    private = homes.key.read_text()
    answer = homes.post("enable", username="new", sshpubkey=private)
    assert answer.status == 400
    secret = private.splitlines()[1].encode()
    assert secret not in answer.body
    assert secret not in homes.log.read_bytes()
    assert secret.decode() not in homes.up.logs()


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"username": "\\ud800"}', b"[" * 5000,
                                 b'{"username": "\xff"}', b"x" * 70_000])
def test_bodies_that_are_no_request(homes: RunningHomes, raw: bytes) -> None:
    answer = homes.up.ask("POST", "/api/ssh/enable", raw, JSON)
    assert answer.status == (413 if len(raw) > 65_536 else 400)
    assert answer.json["detail"]


@pytest.mark.parametrize("path,status", [
    ("/none", 404), ("../../etc/passwd", 400), ("/..", 400), ("/a/../../b", 400), ("a\0b", 400),
    ("/" + "n" * 300, 400), ("/link", 202), ("\udc80", 400)])
def test_paths_that_are_not_in_the_home(homes: RunningHomes, path: str, status: int) -> None:
    homes.enable("paths")
    with contextlib.suppress(FileExistsError):
        (homes.folder("paths") / "link").symlink_to("/etc/passwd")
    answer = homes.post("process", user="paths", path=path)
    assert answer.status == status, answer.body
    if status == 202:
        ended = homes.up.status(answer.job, wait=20)
        assert (ended["state"], "no file" in ended["detail"]) == ("ERROR", True)
        events = homes.get("events/paths")["events"]
        assert events[0]["kind"] == "failed"


def test_who_is_unknown_has_nothing(homes: RunningHomes) -> None:
    for what in ("size/eve", "links/eve", "events/eve", "size/..%2Fann", "size/%FF"):
        answer = homes.up.get(f"/api/ssh/{what}")
        assert answer.status == 404, what
    assert homes.post("process", user="eve", path="/").json["type"] == "urn:zerostor:unknown-home"
    assert homes.up.get("/api/ssh/links/eve?limit=x").status in (400, 404)


@pytest.mark.parametrize("headers", [
    {"X-Forwarded-For": "127.0.0.1"}, {"x-forwarded-server": "a"}, {"X-Client-IP": "1.2.3.4"},
    {"Forwarded": "for=127.0.0.1"}, {"Via": "1.1 proxy"},
    {"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example"}, {"Origin": "https://evil.example"},
    {"Origin": "null"}, {"Host": "[::1"}, {"Origin": "http://[::1"}])
def test_what_may_come_from_elsewhere_is_refused(
        homes: RunningHomes, headers: dict[str, str]) -> None:
    for method, path in (("GET", "/api/ssh/homes"), ("POST", "/api/ssh/enable"),
                         ("GET", "/api/ssh/links/ann"), ("POST", "/api/ssh/process")):
        answer = homes.up.ask(method, path, b"{}" if method == "POST" else None, JSON | headers)
        assert answer.status in (400, 403), (path, answer.body)
        assert b"keys" not in answer.body


def test_a_proxy_of_this_host_that_says_nothing_of_itself_is_refused(homes: RunningHomes) -> None:
    """nginx without settings: HTTP/1.0, the Host of the gateway, and no word of who asks."""
    with socket.create_connection(("127.0.0.1", homes.up.port), 60) as line:
        line.sendall(f"GET /api/ssh/homes HTTP/1.0\r\nHost: 127.0.0.1:{homes.up.port}\r\n"
                     "Connection: close\r\n\r\n".encode())
        answer = line.makefile("rb").read()
    assert b" 403 " in answer.splitlines()[0]
    assert b"keys" not in answer


def test_a_form_cannot_ask(homes: RunningHomes) -> None:
    body = f'{{"username": "form", "sshpubkey": "{homes.public.strip()}"}}'.encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = homes.up.ask("POST", "/api/ssh/enable", body, {"Content-Type": kind})
        assert answer.status == 400
    assert not any(home["user"] == "form" for home in homes.get("homes")["homes"])


def test_uploads_store_themselves(homes: RunningHomes) -> None:
    homes.enable("auto", auto_process={"quiet": 0.5})
    body = content_of(50_000)
    homes.put("auto", "cat.jpg.part", body)
    done = homes.sftp("auto", "rename cat.jpg.part cat.jpg", "mkdir sub")
    assert done.returncode == 0, done.stderr
    homes.put("auto", "sub/dog.jpg", body[:-1])
    links = until(lambda: (found := homes.get("links/auto")["links"])[1:] and found, "two links")
    assert {link["path"] for link in links} == {"/cat.jpg", "/sub/dog.jpg"}
    for link in links:
        name = homes.folder("auto") / (link["path"][1:] + ".link")
        assert until(name.exists, "a link file") and name.read_text() == (
            f"https://files.example{link['link']}\n")
    assert sorted(len(homes.up.get(link["link"]).body) for link in links) == [49_999, 50_000]


def test_what_goes_for_room_is_an_event(homes: RunningHomes) -> None:
    homes.enable("drop", max_size_mb=1, quota="drop-oldest")
    for number in range(3):
        homes.put("drop", f"{number}", content_of(450_000, number))
    events = homes.get("events/drop")["events"]
    assert [(event["kind"], event["path"], event["size"]) for event in events] == [
        ("removed", "/0", 450_000)]
    assert homes.get("size/drop")["files"] == 2


@pytest.mark.skipif(shutil.which("rsync") is None, reason="there is no rsync here")
def test_what_rsync_brings_is_stored_once_it_has_ended(homes: RunningHomes) -> None:
    """--inplace writes under the final name, and stops for longer than the quiet time."""
    homes.enable("rsync", auto_process={"quiet": 0.2, "link_files": False}, max_size_mb=50)
    source = homes.up.folder.with_suffix(".tree")
    (source / "sub").mkdir(parents=True)
    bodies = {"/a": content_of(4_000_000), "/sub/b": content_of(1_000)}
    for name, body in bodies.items():
        (source / name[1:]).write_bytes(body)
    running = homes.rsync("-a", "--inplace", "--bwlimit=2000", f"{source}/", "rsync@127.0.0.1:")
    until(lambda: (homes.folder("rsync") / "a").exists(), "it has begun")
    running.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    running.send_signal(signal.SIGCONT)
    assert running.wait(60) == 0, running.stderr and running.stderr.read()
    links = until(lambda: (found := homes.get("links/rsync")["links"])[1:] and found, "two links")
    assert {link["path"]: homes.up.get(link["link"]).body for link in links} == bodies
    time.sleep(1)
    assert len(homes.get("links/rsync")["links"]) == 2, "nothing half-way was stored"


@pytest.mark.parametrize("way", ["sftp", "scp", "rsync --inplace", "rsync --partial"])
def test_what_a_client_left_half_done_is_stored_once_it_has_the_rest(
    homes: RunningHomes, way: str
) -> None:
    user = way.replace(" --", "-")
    homes.enable(user, auto_process={"quiet": 0.2, "link_files": False, "remove": True},
                 max_size_mb=50)
    source = homes.up.folder.with_suffix(".half")
    source.write_bytes(content_of(20_000_000))
    there = homes.folder(user)

    def begin() -> subprocess.Popen[bytes]:
        if way.startswith("rsync"):
            return homes.rsync("-a", way[6:], "--bwlimit=1500", str(source), f"{user}@127.0.0.1:")
        return homes.slowly(way, str(source), user)

    broken = begin()
    until(lambda: sum(one.stat().st_size for one in there.iterdir()) > 500_000, "it has begun")
    broken.terminate()
    assert broken.wait(60) != 0
    until(lambda: [event["kind"] for event in homes.get(f"events/{user}")["events"]] == ["failed"],
          "it is told")
    assert [one.name for one in there.iterdir()] == [source.name]
    assert 500_000 < (there / source.name).stat().st_size < 20_000_000
    whole = homes.rsync("-a", "--inplace", str(source), f"{user}@127.0.0.1:")
    assert whole.wait(60) == 0, whole.stderr and whole.stderr.read()
    (link,) = until(lambda: homes.get(f"links/{user}")["links"], "a link")
    assert homes.up.get(link["link"]).body == source.read_bytes()


def test_half_of_a_file_is_known_as_such_after_a_crash(homes: RunningHomes) -> None:
    """rsync --inplace has no name of its own for what is on its way."""
    homes.enable("half", auto_process={"quiet": 0.2, "link_files": False}, max_size_mb=50)
    source = homes.up.folder.with_suffix(".half")
    source.write_bytes(content_of(20_000_000))
    there = homes.folder("half") / source.name
    sending = homes.rsync("-a", "--inplace", "--bwlimit=1500", str(source), "half@127.0.0.1:")
    until(lambda: there.exists() and there.stat().st_size > 500_000, "it has begun")
    homes.kill()
    assert sending.wait(60) != 0
    homes.start()
    until(lambda: [event["kind"] for event in homes.get("events/half")["events"]] == ["failed"],
          "it is told")
    homes.put("half", "whole", b"all of it")
    until(lambda: len(homes.get("links/half")["links"]) == 1, "others are stored")
    again = homes.rsync("-a", "--inplace", str(source), "half@127.0.0.1:")
    assert again.wait(60) == 0, again.stderr and again.stderr.read()
    until(lambda: len(homes.get("links/half")["links"]) == 2, "the whole is stored")


def test_the_command_line(homes: RunningHomes) -> None:
    made = homes.command("ssh-enable", "cli", "--key", "-", "--limit", "5MB", text=homes.public)
    assert made.returncode == 0, made.stderr
    assert f"sftp -P {homes.port} cli@127.0.0.1" in made.stdout
    private = homes.command("ssh-enable", "cli", "--key", str(homes.key))
    assert (private.returncode, "private key" in private.stderr) == (2, True)
    homes.put("cli", "a.txt", b"hello")
    stored = homes.command("ssh-process", "cli", "a.txt")
    assert stored.returncode == 0, stored.stderr
    link = "/" + stored.stdout.strip().rpartition("/")[2]
    assert homes.up.get(link).body == b"hello"
    shown = homes.command("ssh-size", "cli")
    assert "5 B" in shown.stdout and "5.0 MB" in shown.stdout and "SHA256:" in shown.stdout
    assert link in homes.command("ssh-links", "cli").stdout
    assert "stored" in homes.command("ssh-events", "cli").stdout
    missing = homes.command("ssh-process", "cli", "none")
    assert (missing.returncode, "no /none" in missing.stderr) == (1, True)
    closed = homes.command("ssh-disable", "cli")
    assert "files stay" in closed.stdout
    assert homes.command("ssh-size", "eve").returncode == 1


def test_a_home_is_taken_away_for_good(homes: RunningHomes) -> None:
    homes.enable("leaves", max_size_mb=1, auto_process={"quiet": 0})
    homes.put("leaves", "stored", b"one")
    until(lambda: len(homes.get("links/leaves")["links"]) == 1, "it is stored")
    link = homes.get("links/leaves")["links"][0]["link"]
    homes.enable("leaves", auto_process=False)
    homes.put("leaves", "new", b"two, longer")
    for bad in ({"fingerprint": "SHA256:x", "delete_files": True}, {"delete_files": "yes"}):
        assert homes.post("disable", username="leaves", **bad).status == 400
    refused = homes.command("ssh-disable", "leaves", "--delete-files")
    assert refused.returncode != 0
    assert "of 1 (11 bytes)" in refused.stderr and "/new" in refused.stderr
    assert sorted(os.listdir(homes.folder("leaves"))) == ["new", "stored", "stored.link"]
    assert homes.sftp("leaves", "ls").returncode != 0, "nobody comes in any more"
    gone = homes.post("disable", username="leaves", delete_files=True, unstored=True)
    fits(gone.json, "HomeDisabled")
    assert gone.json["deleted"]["files"] == 3 and not homes.folder("leaves").exists()
    assert "leaves" not in [home["user"] for home in homes.get("homes")["homes"]]
    assert homes.post("disable", username="leaves", delete_files=True).status == 404
    assert homes.up.get(link).body == b"one"
    assert homes.enable("leaves")["files"] == 0
    assert homes.get("links/leaves")["links"] == []
    homes.put("leaves", "again", b"three")


def test_a_job_survives_the_end_of_everything_right_after_its_202(homes: RunningHomes) -> None:
    homes.enable("kill", max_size_mb=200)
    folder = homes.folder("kill") / "box"
    folder.mkdir()
    files = {f"{number:02}": content_of(1_000_000, number) for number in range(20)}
    for name, body in files.items():
        (folder / name).write_bytes(body)
    jobs = [homes.process_path("kill", "/box"), homes.process_path("kill", "/box/03")]
    homes.kill()
    homes.up.kill_all()
    homes.up.start()
    states = [homes.up.ask("GET", f"/api/status/{job}").status for job in jobs]
    assert set(states) <= {200, 503}, "it is never unknown, at most not to be asked"
    homes.start()
    archive, file = [homes.up.stored(job) for job in jobs]
    assert homes.up.get(file).body == files["03"]
    with tarfile.open(fileobj=io.BytesIO(homes.up.get(archive).body)) as found:
        for name, body in files.items():
            member = found.extractfile(f"box/{name}")
            assert member is not None and member.read() == body
    for job in jobs:
        assert sum(record.job == job for record in homes.up.records()) == 1
    until(lambda: len(homes.get("links/kill")["links"]) == 2, "each has one link")


def test_the_ssh_process_killed_at_random_while_it_packs(homes: RunningHomes) -> None:
    homes.enable("rand", max_size_mb=500)
    chance = random.Random(4)
    for number in range(3):
        folder = homes.folder("rand") / str(number)
        folder.mkdir()
        for name in range(6):
            (folder / f"{name}").write_bytes(content_of(2_000_000, name))
    jobs = [homes.process_path("rand", f"/{number}", remove=True) for number in range(3)]
    for _ in range(3):
        time.sleep(chance.uniform(0, 0.6))
        homes.kill()
        homes.start()
    for number, job in enumerate(jobs):
        with tarfile.open(fileobj=io.BytesIO(homes.up.get(homes.up.stored(job)).body)) as found:
            assert len(found.getnames()) == 7
            member = found.extractfile(f"{number}/5")
            assert member is not None and member.read() == content_of(2_000_000, 5)
        assert sum(record.job == job for record in homes.up.records()) == 1
    until(lambda: not os.listdir(homes.folder("rand")), "all of it goes, once stored")
    assert len(homes.get("links/rand")["links"]) == 3
    until(lambda: not homes.up.spool_left(), "nothing stays in the spool")


def test_without_redis_it_waits_and_is_known(homes: RunningHomes) -> None:
    homes.enable("redis")
    (homes.folder("redis") / "a").write_bytes(b"one")
    with homes.up.stopped("redis"):
        job = homes.process_path("redis", "/a")
        known = homes.up.status(job)
        assert known["state"] in ("ACTIVE", "WAITING")
    assert homes.up.get(homes.up.stored(job)).body == b"one"
    homes.up.redis("FLUSHALL")
    assert homes.up.status(job)["state"] == "DONE"


def test_without_the_ssh_process_it_says_so(homes: RunningHomes) -> None:
    homes.enable("away")
    (homes.folder("away") / "a").write_bytes(b"one")
    job = homes.process_path("away", "/a")
    homes.up.stored(job)
    homes.kill()
    try:
        answer = homes.up.get("/api/ssh/homes")
        assert (answer.status, answer.json["type"]) == (503, "urn:zerostor:homes-away")
        assert answer.headers["Retry-After"]
        assert homes.up.status(job)["state"] == "DONE"
    finally:
        homes.start()


def test_a_damaged_book_stops_it_with_a_sentence(homes: RunningHomes) -> None:
    homes.close()
    book = homes.up.folder / "ssh" / "homes.db"
    whole = book.read_bytes()
    book.write_bytes(b"\0" * 50 + whole[50:])
    try:
        done = homes.command("ssh", "--data", str(homes.up.folder), "--listen",
                             f"127.0.0.1:{homes.port}")
        assert done.returncode == 1
        assert "homes.db is damaged" in done.stderr and "files are untouched" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        book.write_bytes(whole)
        homes.start()
    assert homes.get("homes")["homes"]


def test_without_ssh_the_routes_say_how_to_turn_it_on(homes: RunningHomes) -> None:
    homes.close()
    try:
        answer = homes.up.get("/api/ssh/homes")
        assert (answer.status, answer.json["type"]) == (404, "urn:zerostor:ssh-off")
        assert "enabled = true" in answer.json["detail"]
        assert homes.up.get(f"/api/status/{'f' * 32}").status == 404
    finally:
        homes.start()
