"""Private objects: who knows what is in one still cannot find its link."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from blake3 import blake3

from tests.fakes.running_up import JSON, ROOT, Up, content_of, digest
from zerostor.core.limits import MIB
from zerostor.core.record import ObjectRecord

SIZES = (0, 6, 5000, 100_000, 2 * MIB + 100, 17 * MIB)
"""Served in one piece, in packs, and alone in one stripe and in two."""
PINS = [f"The PIN of the safe is {number:04d}.\n".encode() for number in range(10_000)]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with Up(tmp_path_factory.mktemp("private") / "zerostor") as running:
        yield running


def plain(body: bytes) -> str:
    return blake3(body).hexdigest(24)


def store_privately(up: Up, body: object, **query: object) -> str:
    return up.upload(body, ext="bin", wait=60, private=1, **query).link


def record_of(up: Up, link: str) -> ObjectRecord:
    record, = (one for one in up.records() if one.content.hex() == link[1:49])
    return record


def is_private(up: Up, link: str, body: bytes) -> None:
    """It comes back, is told to be private, and its hash is none that the bytes give."""
    answer = up.get(link)
    assert (answer.status, digest(answer.body)) == (200, digest(body)), answer.body[:200]
    assert answer.headers["Zerostor-Private"] == "1"
    assert answer.headers["Cache-Control"].startswith("private")
    assert up.get(f"/api/exists{link}").json["private"] is True
    salt = record_of(up, link).salt
    assert len(salt) == 32
    assert link[1:49] == blake3(blake3(body).digest(), key=salt).hexdigest(24) != plain(body)


@pytest.mark.parametrize("size", SIZES)
def test_the_same_bytes_twice_are_two_hashes(up: Up, size: int) -> None:
    body = content_of(size)
    first, second, public = store_privately(up, body), store_privately(up, body), up.store(body)
    assert len({first[:49], second[:49], f"/{plain(body)}"}) == 3
    assert public[:49] == f"/{plain(body)}"
    for link in (first, second):
        is_private(up, link, body)
        found = up.get(f"/api/check{link}?mode=hard").json
        assert (found["private"], found["state"], found["content"]) == (True, "healthy", "good")
    answer = up.get(public)
    assert answer.headers["Cache-Control"].startswith("public")
    assert "Zerostor-Private" not in answer.headers
    assert up.get(f"/api/exists{public}").json["private"] is False


def test_whichever_way_it_comes(up: Up) -> None:
    body = content_of(300_000, 7)
    form = (b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
            + body + b"\r\n--x--\r\n")
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = up.upload(form, kind, wait=60, private="true")
    assert answer.json["private"] is True
    is_private(up, answer.link, body)
    accepted = up.upload(body, private=1)
    assert accepted.json["private"] is True
    is_private(up, up.stored(accepted.job), body)
    large = content_of(9 * MIB, 7)
    # A worker follows it before anybody knows that it will be private.
    is_private(up, store_privately(up, (large[at : at + MIB] for at in range(0, 9 * MIB, MIB))),
               large)
    assert "private" not in up.upload(body, wait=60, private=0).json


@pytest.mark.parametrize("text", ["", "yes", "2", "1 "])
@pytest.mark.parametrize("headers", [{}, {"Expect": "100-continue"}])
def test_what_is_neither_yes_nor_no_is_refused(
    up: Up, text: str, headers: dict[str, str]
) -> None:
    answer = up.upload(b"x", headers, private=text)
    assert (answer.status, answer.json["detail"]) == (400, "private is 1 or 0")


def test_who_knows_all_but_a_few_digits_finds_nothing(up: Up) -> None:
    """T1: a template and a PIN. What is public is found by trying all, as the control."""
    private, public = store_privately(up, PINS[4711]), up.store(PINS[1174], "bin")
    guesses = {plain(body): body for body in PINS}
    contents = {record.content.hex() for record in up.records()}
    assert {guesses[one] for one in contents & set(guesses)} == {PINS[1174]}
    number = private[49:57]

    def leads_somewhere(guess: str) -> bool:
        return up.get(f"/api/exists/{guess}{number}").status != 404

    # The gateway itself, asked under the right id, which anyone can count up to.
    tried = [plain(body) for body in PINS[4700:4800]]
    # What one gets who takes a salt of zeros, or none, for the real one.
    tried += [blake3(blake3(PINS[4711]).digest(), key=bytes(32)).hexdigest(24),
              blake3(PINS[4711], key=bytes(32)).hexdigest(24), plain(blake3(PINS[4711]).digest())]
    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(leads_somewhere, tried))
    assert leads_somewhere(private[1:49])
    assert up.get(public).body == PINS[1174]


def test_damage_and_lost_stores(up: Up) -> None:
    bodies = {store_privately(up, body): body
              for body in (content_of(5000, 3), content_of(2 * MIB + 100, 3))}
    for link, body in bodies.items():
        for shard in up.shards(link)[:4]:
            shard.write_bytes(bytes(shard.stat().st_size))
        is_private(up, link, body)


def test_the_command_line(up: Up, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "gateway", *words], cwd=ROOT, check=True,
                              capture_output=True, text=True, timeout=120)

    secret = tmp_path / "secret.txt"
    secret.write_bytes(PINS[42])
    server = ("--server", f"http://127.0.0.1:{up.port}")
    url = run("put", "--private", str(secret), *server).stdout.strip()
    is_private(up, url[url.rindex("/"):], PINS[42])
    told = json.loads(run("put", "--private", "--json", str(secret), *server).stdout)
    assert told["private"] is True
    assert "private" not in json.loads(run("put", "--json", str(secret), *server).stdout)
    got = run("get", url, "-o", str(tmp_path / "got"))
    assert (tmp_path / "got").read_bytes() == PINS[42]
    assert "private: verified by the gateway" in got.stderr


def test_everything_is_killed_before_it_is_stored(tmp_path: Path) -> None:
    up = Up(tmp_path / "data")
    try:
        up.start()
        bodies = [PINS[1], content_of(3 * MIB)]
        with up.stopped("worker"):
            jobs = [up.upload(body, private=1).job for body in bodies]
            up.kill_all()
        up.start()
        for job, body in zip(jobs, bodies, strict=True):
            is_private(up, up.stored(job), body)
        no_salt_is_told(up)
    finally:
        up.close()


def test_links_come_back_from_the_stores_alone(tmp_path: Path) -> None:
    """Also: a policy that makes all uploads private, and public ones of before beside them."""
    up = Up(tmp_path / "data")
    try:
        up.start()
        public = {up.store(body): body for body in (PINS[1], content_of(2 * MIB + 1))}
        up.stop()
        up.settings.write_text("[policy.default]\nprivate = true\n")
        up.start()
        private = {up.store(body): body for body in public.values()}
        salts = {link: record_of(up, link).salt for link in private}
        up.kill_all()
        shutil.rmtree(up.folder / "metadata")
        shutil.rmtree(up.folder / "containers", ignore_errors=True)
        done = subprocess.run(
            [sys.executable, "-m", "gateway", "recover", "--data", str(up.folder), "--verify"],
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        up.start()
        assert {link: record_of(up, link).salt for link in private} == salts
        for link, body in private.items():
            is_private(up, link, body)
        for link, body in public.items():
            assert link[1:49] == plain(body)
            assert up.get(link).body == body
        no_salt_is_told(up)
    finally:
        up.close()


def test_a_private_policy_stays_one_on_an_empty_machine(tmp_path: Path) -> None:
    up = Up(tmp_path / "data", "[policy.default]\nprivate = true\n")
    body = content_of(3 * MIB)
    try:
        up.start()
        link = up.store(body)
    finally:
        up.close()
    disks = (up.folder / "stores").rename(tmp_path / "disks")
    shutil.rmtree(up.folder)
    stores = sorted(str(place) for place in disks.iterdir() if place.is_dir())
    subprocess.run([sys.executable, "-m", "gateway", "recover", "--data", str(tmp_path / "new"),
                    "--stores", *stores], cwd=ROOT, check=True, capture_output=True, timeout=120)
    again = Up(tmp_path / "new")
    again.settings = again.folder / "zerostor.toml"
    try:
        again.start()
        is_private(again, link, body)
        is_private(again, again.store(PINS[5]), PINS[5])
    finally:
        again.close()


def no_salt_is_told(up: Up) -> None:
    """In no log, and no answer about it: as bytes, hex or base64."""
    salts = [record.salt for record in up.records() if record.salt]
    assert salts
    told = [path.read_bytes() for path in up.folder.glob("logs/*")]
    told.append(up.screen_file.read_bytes())
    told += [up.get(f"/api/status/{record.job}", JSON).body for record in up.records()]
    told += [up.get(path).body for path in ("/api/jobs", "/api/stores", "/metrics", "/readyz")]
    everything = b"\n".join(told)
    for salt in salts:
        for form in (salt, salt.hex().encode(), base64.b64encode(salt)[:40],
                     base64.urlsafe_b64encode(salt)[:40], repr(salt)[2:-1].encode()):
            assert form not in everything
