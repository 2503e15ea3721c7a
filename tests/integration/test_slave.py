"""A grid and its slave under `zerostor up`: reads with the master dead, promotion, return."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.fakes.ports import free_port
from tests.fakes.running_up import ROOT, Up
from tests.fakes.zdb_server import Client
from zerostor.core.container_index import decode_copy


class Pair(NamedTuple):
    """Two grids' worth of processes over the stores of the first."""

    master: Up
    slave: Up


def url_of(up: Up) -> str:
    return f"unix://{up.folder / 'run' / 'zdb.sock'}"


def settings(stores: Path, master: str = "") -> str:
    tables = [f'[[store]]\nname = "{number:02d}"\nurl = "dir://{stores}/{number:02d}"\n'
              for number in range(20)]
    followed = f'[metadata]\nrole = "slave"\nmaster = "{master}"\n' if master else ""
    return followed + "".join(tables)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    master = Up(tmp_path / "m")
    master.start()
    slave = Up(tmp_path / "s", settings(master.folder / "stores", url_of(master)))
    slave.start()
    yield Pair(master, slave)
    slave.close()
    master.close()


def zerostor(*words: str) -> str:
    """What a command prints; it must succeed."""
    ended = subprocess.run([sys.executable, "-m", "gateway", *words], cwd=ROOT, check=False,
                           capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def of(up: Up) -> list[str]:
    return ["--data", str(up.folder), "--config", str(up.settings)]


def metadata(up: Up) -> dict[str, object]:
    found: dict[str, object] = up.get("/readyz").json["metadata"]
    return found


def level(master: Up, slave: Up) -> None:
    def same() -> bool:
        ends = [(metadata(up)["file"], metadata(up)["offset"]) for up in (master, slave)]
        return ends[0] == ends[1]

    slave.until(same, "the slave has everything")


def test_a_slave_serves_all_reads_with_its_master_dead(pair: Pair) -> None:
    master, slave = pair
    rng = random.Random(1)
    bodies = {master.store(body): body
              for body in (rng.randbytes(size) for size in (0, 10, 5000, 3_000_000, 40_000_000))}
    job = master.upload(b"to be asked for", ext="txt").job
    link = master.stored(job)
    level(master, slave)
    slave.until(lambda: metadata(slave)["gateway"] == f"http://127.0.0.1:{master.port}",
                "it knows who takes uploads")
    master.kill_all()
    for path, body in bodies.items():
        answer = slave.get(path)
        assert (answer.status, answer.body) == (200, body)
        assert slave.ask("HEAD", path).headers["Content-Length"] == str(len(body))
        assert slave.get(f"/api/exists/{path[1:57]}").json["size"] == len(body)
        assert slave.get(f"/api/check/{path[1:57]}?mode=hard").json["state"] == "healthy"
    assert slave.status(job)["link"] == link
    assert slave.status(job, wait=5)["state"] == "DONE"
    assert slave.get("/api/status/" + "ab" * 16).status == 404
    # What writes says where to go.
    for answer in (slave.upload(b"no", ext="txt"), slave.upload(b"no", ext="txt", wait=5),
                   slave.ask("POST", "/api/jobs/" + "ab" * 16 + "/requeue")):
        assert answer.status == 503 and answer.headers["Retry-After"]
        assert answer.json["master"] == f"http://127.0.0.1:{master.port}"
        assert answer.json["master"] in answer.json["detail"]
    assert not slave.spool_left()
    assert slave.get("/api/stores").json["uploads"] is False
    assert "stored once" not in slave.screen(), "it takes no uploads"
    assert "stored once 18 are on disk" in master.screen()
    ready = slave.get("/readyz")
    assert ready.status == 200 and ready.json["metadata"]["role"] == "slave"
    slave.until(lambda: metadata(slave)["connected"] is False, "it says so")
    assert "zerostor promote" in slave.upload(b"no", ext="txt").json["detail"]
    text = slave.get("/metrics").body.decode()
    assert "zerostor_replication_connected 0" in text and "zerostor_metadata_master 0" in text
    told = zerostor("stores", "--server", f"http://127.0.0.1:{slave.port}")
    assert "metadata: slave cut off" in told and "0 entries" in told


def test_promotion_while_uploads_go_on_and_the_old_master_returns(pair: Pair) -> None:
    master, slave = pair
    stored: dict[str, bytes] = {}
    over = threading.Event()

    def load(up: Up, number: int) -> None:
        counter = 0
        while not over.is_set():
            counter += 1
            body = b"%d-%d" % (number, counter)
            try:
                answer = up.upload(body, ext="txt", wait=30)
            except OSError:
                return
            if answer.status == 200:
                stored[answer.link] = body
            elif answer.status == 503:
                return

    loads = [threading.Thread(target=load, args=(master, number)) for number in range(4)]
    for each in loads:
        each.start()
    master.until(lambda: len(stored) > 50, "uploads are stored")
    promoted = json.loads(zerostor("promote", "--json", *of(slave)))
    assert promoted["role"] == "master" and promoted["epoch"] == 1
    over.set()
    for each in loads:
        each.join()
    link = slave.store(b"to the new master")
    assert all(slave.get(path).body == body for path, body in stored.items()), "nothing is missing"
    # The old master lives, and takes nothing.
    def refused_by(up: Up) -> str:
        answer = up.upload(b"no", ext="txt")
        return str(answer.json.get("master")) if answer.status == 503 else ""

    master.until(lambda: refused_by(master) == f"http://127.0.0.1:{slave.port}", "it was told")
    assert master.get(next(iter(stored))).status == 200
    master.kill_all()
    master.start(wait=False)
    master.until(lambda: master.get("/readyz").json["metadata"], "it is back")
    assert master.upload(b"no", ext="txt").status == 503, "and has not forgotten"
    master.close()
    master.settings.write_text(settings(master.folder / "stores", url_of(slave)))
    master.start()
    level(slave, master)
    assert master.get(link).body == b"to the new master"
    assert zerostor("compare", *of(master)).endswith("master and slave are the same\n")


def test_a_slave_of_a_dead_master_starts_and_is_promoted(pair: Pair) -> None:
    master, slave = pair
    link = master.store(b"kept")
    level(master, slave)
    master.kill_all()
    slave.kill_all()
    slave.start()
    assert slave.get(link).body == b"kept"
    said = zerostor("promote", *of(slave))
    assert "this is the master now: epoch 1" in said and "cannot be reached" in said
    assert slave.get(slave.store(b"new")).body == b"new"
    slave.kill_all()
    slave.start()
    assert slave.get(slave.store(b"newer")).body == b"newer", "its settings still name the old one"
    failed = subprocess.run([sys.executable, "-m", "gateway", "promote", *of(slave)], cwd=ROOT,
                            check=False, capture_output=True, text=True, timeout=60)
    assert failed.returncode == 1 and "this is the master already" in failed.stderr


def covered(index: Path) -> int:
    """Bytes of the first log file that it lists."""
    return decode_copy(index.read_bytes()).index.covered(0)


def test_a_slave_that_has_less_than_the_pool_is_not_promoted_unasked(tmp_path: Path) -> None:
    """What it stores once it is, comes back from the stores, whatever else they hold."""
    often = '[metadata]\narchive_every = "1s"\n'
    master = Up(tmp_path / "m", often)
    slave = Up(tmp_path / "s", "")
    try:
        master.start()
        slave.settings.write_text(settings(master.folder / "stores", url_of(master)).replace(
            "[metadata]\n", often))
        slave.start()
        early = master.store(b"early")
        level(master, slave)
        slave.kill_all()
        # Looked up on the disk: a gateway asks its metadata server only once a second.
        had = (slave.folder / "metadata" / "default" / "d0").stat().st_size
        late = master.store(b"late")
        master.until(lambda: sum(
            covered(copy) > had for copy in (master.folder / "stores").glob("*/co/*-index-?")
        ) >= 20, "it is on all stores")
        master.kill_all()
        slave.start()
        mine = slave.folder / "containers" / "index"
        slave.until(lambda: mine.exists() and covered(mine) > had, "it heard of it")
        refused = subprocess.run([sys.executable, "-m", "gateway", "promote", *of(slave)], cwd=ROOT,
                                 check=False, capture_output=True, text=True, timeout=60)
        assert refused.returncode == 1 and "the stores have more" in refused.stderr
        assert metadata(slave)["role"] == "slave"
        zerostor("promote", "--force", *of(slave))
        slave.until(lambda: slave.upload(b"first", wait=60).status == 200, "its gateway saw it")
        new = {slave.store(b"new %d" % number): b"new %d" % number for number in range(3)}
        copies = sorted((master.folder / "stores").glob("*/co/*-index-?"))
        slave.until(lambda: covered(mine) and all(
            decode_copy(copy.read_bytes()).index.epoch == 1 for copy in copies), "it is kept")
        slave.kill_all()
        shutil.rmtree(slave.folder / "metadata")
        shutil.rmtree(slave.folder / "containers")
        command = ["recover", "--json", "--data", str(tmp_path / "new"), "--stores",
                   *map(str, sorted((master.folder / "stores").glob("??")))]
        recovered = subprocess.run([sys.executable, "-m", "gateway", *command], cwd=ROOT,
                                   check=False, capture_output=True, text=True, timeout=60)
        assert recovered.stdout, recovered.stderr
        found = json.loads(recovered.stdout)
        named = [f"/{link}" for link in found["lost_links"]["first"]]
        assert found["complete"] == (not named) and set(named) <= {late}, found
        again = Up(tmp_path / "new")
        again.settings = again.folder / "zerostor.toml"
        try:
            again.start()
            for link, body in {early: b"early", **new}.items():
                assert again.get(link).body == body
            assert (again.get(late).body == b"late") != (late in named)
        finally:
            again.close()
    finally:
        slave.close()
        master.close()


def test_each_upload_reaches_the_slave(pair: Pair) -> None:
    master, slave = pair
    for number in range(50):
        link = master.store(b"%d" % number)
        slave.until(lambda link=link: slave.get(link).status == 200, "the slave has it")
    state = metadata(master)["slaves"]
    assert isinstance(state, list) and len(state) == 1
    # What was put aside once is told until a person removes it.
    aside = slave.folder / "metadata" / "default" / "aside-1-d0"
    aside.write_bytes(bytes(5000))
    slave.until(lambda: metadata(slave)["aside_files"] == 1, "it is told")
    assert "zerostor_metadata_aside_bytes 5000" in slave.get("/metrics").body.decode()
    assert "1 file aside-*" in zerostor("stores", "--server", f"http://127.0.0.1:{slave.port}")
    aside.unlink()
    slave.until(lambda: metadata(slave)["aside_files"] == 0, "it is gone")


def test_what_the_old_master_accepted_is_stored_at_the_new_one(pair: Pair) -> None:
    master, slave = pair
    with master.stopped("worker"):
        accepted = {master.upload(body, ext="txt").job: body
                    for body in (b"%d" % number * 1000 for number in range(20))}
        zerostor("promote", *of(slave))
    links = {master.stored(job): body for job, body in accepted.items()}
    assert all(slave.get(link).body == body for link, body in links.items())
    assert len(slave.records()) == len(accepted)


def test_over_tcp_with_a_password(tmp_path: Path) -> None:
    secret, port = tmp_path / "password", free_port()
    secret.write_text("correct horse\n")
    listening = (f'[metadata]\nlisten = "127.0.0.1:{port}"\npassword_file = "{secret}"\n')
    master = Up(tmp_path / "m", listening)
    master.start()
    stores = settings(master.folder / "stores")
    slave = Up(tmp_path / "s", f'[metadata]\nmaster = "zdb://127.0.0.1:{port}"\n'
               f'password_file = "{secret}"\n{stores}')
    slave.start()
    link = master.store(b"over the network")
    level(master, slave)
    assert slave.get(link).body == b"over the network"
    written = [path for up in (master, slave) for path in up.folder.rglob("*")
               if path.is_file() and b"correct horse" in path.read_bytes()]
    assert written == [], "the password is nowhere but in its file"
    told = slave.get("/readyz").body + slave.get("/api/stores").body + slave.get("/metrics").body
    assert b"correct horse" not in told
    stranger = Client(("127.0.0.1", port))
    assert stranger.fails(b"GET", bytes(8)) == "Permission denied"
    assert stranger.fails(b"LOG", b"READ", b"0", b"0", b"100") == "Permission denied"
    stranger.socket.close()
    slave.close()
    secret.write_text("another\n")
    slave.start()
    slave.until(lambda: "password" in str(metadata(slave)["problem"]), "it says what is wrong")
    assert slave.get(link).body == b"over the network"
    slave.close()
    master.close()
