"""`zerostor recover`: the metadata is gone, the stores are all there is."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.running_up import ROOT, Up, content_of, digest
from tests.fakes.zdb_servers import ZdbProcess
from zerostor.core.container_index import ContainerIndex, decode_copy
from zerostor.core.link import parse_link
from zerostor.identity import load_identity

SIZES = [0, 1, 777, 5000, 100_000, 2_000_000, 2_200_000, 17_000_000]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    started = Up(tmp_path / "data")
    yield started
    started.close()


def recover(*arguments: str | Path, room: int = -1) -> subprocess.CompletedProcess[str]:
    """room: bytes that a file may have."""
    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    return subprocess.run([sys.executable, "-m", "gateway", "recover", *map(str, arguments)],
                          cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
                          preexec_fn=bounded)


def found(answer: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert answer.returncode in (0, 1), answer.stderr
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


def fill(up: Up, sizes: list[int] = SIZES) -> dict[str, bytes]:
    """Objects of all sizes; by link."""
    bodies = {size: content_of(size) for size in sizes}
    return {up.store(body, "bin"): body for body in bodies.values()}


def all_come_back(up: Up, bodies: dict[str, bytes]) -> None:
    for link, body in bodies.items():
        answer = up.get(link)
        assert answer.status == 200, (link, answer.body[:200])
        assert digest(answer.body) == digest(body)


def forget_the_archivist(up: Up) -> None:
    """The killed gateway has that role for 20 seconds more, else."""
    up.redis("DEL", "{zerostor}:role:archivist")


def stores_of(up: Up) -> list[Path]:
    return sorted(path for path in (up.folder / "stores").iterdir() if path.is_dir())


def test_metadata_deleted_and_made_again(up: Up) -> None:
    """The words of the README: the metadata is gone, one command, everything works again."""
    up.start()
    bodies = fill(up)
    up.kill_all()
    shutil.rmtree(up.folder / "metadata")
    result = found(recover("--data", up.folder, "--json"))
    assert result["complete"] and result["objects_from_log"] + result["objects_from_shards"] == len(
        bodies)
    up.start()
    all_come_back(up, bodies)
    highest = max(parse_link(link.lstrip("/"))[0].metadata_id for link in bodies)
    fresh = up.store(b"younger than the recovery")
    assert parse_link(fresh.lstrip("/"))[0].metadata_id >= result["next_id"] > highest
    assert up.get(fresh).body == b"younger than the recovery"
    assert oct((up.folder / "identity.key").stat().st_mode & 0o777) == "0o600"


def test_the_log_is_in_the_pool_and_comes_back(tmp_path: Path) -> None:
    """A running zerostor keeps its log in the pool by itself, and rests when nothing happens."""
    up = Up(tmp_path / "data", '[metadata]\narchive_every = "1s"\n')
    try:
        up.start()
        bodies = fill(up, [10, 5000, 2_200_000])
        index = up.folder / "containers" / "index"

        def kept() -> ContainerIndex:
            return decode_copy(index.read_bytes()).index

        up.until(lambda: kept().covered(0) > 1000, "the log is in the pool")
        archive = up.get("/readyz").json["archive"]
        assert archive["kept"] > time.time() - 60 and archive["problem"] == ""
        assert "zerostor_archive_age_seconds " in up.get("/metrics").body.decode()

        def rests() -> bool:
            sequence = kept().sequence
            time.sleep(2.5)
            return kept().sequence == sequence

        up.until(rests, "nothing is written while nothing happens")
        up.kill_all()
        shutil.rmtree(up.folder / "metadata")
        shutil.rmtree(up.folder / "containers")
        result = found(recover("--data", up.folder, "--json", "--verify"))
        assert result["complete"] and result["verified"] == 3, result
        assert result["objects_from_log"] >= 1
        assert result["index"]["key"] == load_identity(up.folder / "identity.key").public_key.hex()
        up.start()
        forget_the_archivist(up)
        all_come_back(up, bodies)
        late = up.store(b"late")
        sequence = kept().sequence
        up.until(lambda: kept().sequence > sequence, "the log is kept up to now")
        up.kill_all()
        shutil.rmtree(up.folder / "metadata")
        result = found(recover("--data", up.folder, "--json"))
        assert result["complete"] and result["epoch"] == 2, result
        up.start()
        all_come_back(up, {**bodies, late: b"late"})
    finally:
        up.close()


def test_an_empty_machine_and_sixteen_stores(up: Up, tmp_path: Path) -> None:
    """Four stores are gone for good; the settings that are written run, and take new ones."""
    up.start()
    bodies = fill(up, [0, 900, 70_000, 2_500_000])
    up.stop()
    moved = tmp_path / "disks"
    moved.mkdir()
    for path in random.Random(3).sample(stores_of(up), 16):
        path.rename(moved / f"disk-{path.name}")
    shutil.rmtree(up.folder)
    data = tmp_path / "new"
    answer = recover("--data", data, "--stores", *sorted(moved.iterdir()))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "4 objects" in answer.stdout
    again = Up(data)
    again.settings = data / "zerostor.toml"
    try:
        again.start(wait=False)
        again.until(lambda: all(again.get(link).status == 200 for link in bodies), "all is served")
        all_come_back(again, bodies)
        absent = [name for name, store in again.stores().items() if store["state"] != "up"]
        assert len(absent) == 4
        made = subprocess.run([sys.executable, "-m", "gateway", "stores", "init", *absent,
                               "--data", str(data)], cwd=ROOT, capture_output=True, check=False)
        assert made.returncode == 0, made.stderr
        again.ready()
        link = again.store(content_of(3_000_000, 1))
        assert again.get(link).body == content_of(3_000_000, 1)
    finally:
        again.close()


def test_the_old_metadata_host_writes_no_more_after_a_recovery(up: Up, tmp_path: Path) -> None:
    """It was away, not lost; whoever leads by mistake can still be told to go on."""
    up.settings.write_text('[metadata]\narchive_every = "1s"\n')
    up.start()
    link = up.store(b"one")

    def kept(store: Path) -> bool:
        return any(decode_copy(copy.read_bytes()).index.covered(0) > 0
                   for copy in store.glob("co/container-index-?"))

    # The index of this host comes first, and is not what the stores are recovered from.
    up.until(lambda: all(map(kept, stores_of(up))), "all stores list the log")
    up.kill_all()
    result = found(recover("--data", tmp_path / "new", "--json", "--stores", *stores_of(up)))
    assert result["complete"] and result["epoch"] == 1
    up.start(wait=False)
    up.until(lambda: up.get("/healthz").status == 200, "it is there")
    forget_the_archivist(up)
    up.until(lambda: up.get("/readyz").json["metadata"]["refuses"], "it was told")
    refused = up.upload(b"two", ext="bin")
    assert refused.status == 503 and "another server was promoted" in refused.body.decode()
    assert up.get(link).body == b"one"
    promote = [sys.executable, "-m", "gateway", "promote", "--data", str(up.folder)]
    said = subprocess.run(promote, cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 1 and "promoted since (epoch 1)" in said.stderr
    said = subprocess.run([*promote, "--force"], cwd=ROOT, capture_output=True, check=False)
    assert said.returncode == 0
    assert up.get(up.store(b"two")).body == b"two"


def test_a_store_that_was_forgotten_is_named(up: Up, tmp_path: Path) -> None:
    up.start()
    up.store(b"one")
    up.stop()
    *given, forgotten = stores_of(up)
    for more in ([], ["--dry-run"]):
        answer = recover("--data", tmp_path / "new", "--stores", *given, *more)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert "1 stores fewer were given than objects were written to (new-1)" in answer.stdout
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
    result = found(recover("--data", tmp_path / "new", "--json", "--stores", *given))
    assert result["stores_not_given"] == ["new-1"], "no shard of it was seen"
    whole = found(recover("--data", tmp_path / "other", "--json", "--stores", *given, forgotten))
    assert whole["stores_not_given"] == []


def test_stores_on_a_0_db_are_named_by_their_markers(tmp_path: Path) -> None:
    server = ZdbProcess(tmp_path / "zdb")
    server.start()
    places = [f"zdb://127.0.0.1:{server.port}/space-{number:02d}" for number in range(20)]
    tables = [f'[[store]]\nname = "s{number:02d}"\nurl = "{place}"\n'
              for number, place in enumerate(places)]
    up, again = Up(tmp_path / "data", "".join(tables)), Up(tmp_path / "new")
    again.settings = again.folder / "zerostor.toml"
    try:
        made = subprocess.run([sys.executable, "-m", "gateway", "stores", "init", "--all",
                               "--config", str(up.settings), "--data", str(up.folder)],
                              cwd=ROOT, capture_output=True, check=False)
        assert made.returncode == 0, made.stderr
        up.start()
        bodies = fill(up, [0, 900, 2_200_000])
        up.kill_all()
        answer = recover("--data", again.folder, "--stores", *reversed(places))
        assert answer.returncode == 0, answer.stdout + answer.stderr
        again.start()
        all_come_back(again, bodies)
        assert set(again.stores()) == {f"s{number:02d}" for number in range(20)}
    finally:
        again.close()
        up.close()
        server.kill()


def test_what_is_missing_is_said_and_is_exit_code_1(up: Up, tmp_path: Path) -> None:
    up.start()
    link = up.store(content_of(3_000_000))
    small = up.store(b"small")
    for path in up.shards(link)[:5]:
        path.unlink()
    up.kill_all()
    before = sorted(str(path) for path in up.folder.rglob("*"))
    answer = recover("--dry-run", "--json", "--stores", *stores_of(up), "--data", tmp_path / "no")
    assert answer.returncode == 1
    result = found(answer)
    missing, = result["missing"]["first"]
    assert missing.startswith(f"{link.lstrip('/')}: 15 good shards of 16 needed, too few shards")
    assert result["objects_from_log"] + result["objects_from_shards"] == 1
    assert small
    assert sorted(str(path) for path in up.folder.rglob("*")) == before
    assert not (tmp_path / "no").exists()


def test_nothing_begins_anew_over_stores_that_hold_objects(up: Up) -> None:
    """An empty log would give ids out again: a lost or unmounted folder is refused at the start."""
    up.start()
    bodies = fill(up, [300, 2_200_000])
    up.stop()
    metadata, away = up.folder / "metadata", up.folder / "away"
    metadata.rename(away)
    for made in (False, True):
        if made:
            metadata.mkdir(exist_ok=True)
        for role in ("up", "zdb"):
            refused = subprocess.run([sys.executable, "-m", "gateway", role, "--data",
                                      str(up.folder)], cwd=ROOT, capture_output=True, text=True,
                                     timeout=60, check=False)
            assert refused.returncode == 1
            assert "there is no metadata in" in refused.stderr
            assert f"zerostor recover --data {up.folder}" in refused.stderr
    metadata.rmdir()
    away.rename(metadata)
    up.start()
    all_come_back(up, bodies)


def test_stores_that_cannot_be_read_are_no_empty_pool(up: Up) -> None:
    up.start()
    fill(up, [300])
    up.stop()
    shutil.rmtree(up.folder / "metadata")
    stores = up.folder / "stores"
    for path in stores_of(up):
        path.rename(path.with_name(f"{path.name}-away"))
    refused = recover("--data", up.folder)
    assert refused.returncode == 1
    assert "none of the 20 stores can be read" in refused.stderr
    assert not list((up.folder / "metadata").glob("*"))
    for number in range(2):
        (stores / f"{number:02d}-away").rename(stores / f"{number:02d}")
    result = recover("--data", up.folder, "--dry-run")
    assert result.returncode == 1 and "more stores than may be lost" in result.stdout


def test_a_folder_that_has_metadata_is_refused(up: Up) -> None:
    up.start()
    link = up.store(b"stays as it is")
    refused = recover("--data", up.folder, "--stores", *stores_of(up))
    assert refused.returncode == 1
    assert "in use by another" in refused.stderr
    up.kill_all()
    refused = recover("--data", up.folder, "--stores", *stores_of(up))
    assert refused.returncode == 1
    assert "holds metadata already" in refused.stderr
    up.start()
    assert up.get(link).body == b"stays as it is"


def test_the_same_store_twice_is_refused_with_both_places(up: Up, tmp_path: Path) -> None:
    up.start()
    up.stop()
    shutil.copytree(up.folder / "stores" / "03", tmp_path / "copy")
    answer = recover("--dry-run", "--stores", *stores_of(up), tmp_path / "copy")
    assert answer.returncode == 2
    assert f"{up.folder}/stores/03 and dir://{tmp_path}/copy are both store 03" in answer.stderr
    assert recover("--dry-run", "--stores", *stores_of(up), stores_of(up)[3]).returncode == 0


def test_no_room_is_said_and_leaves_nothing(up: Up) -> None:
    up.start()
    bodies = fill(up, [10, 700, 5000])
    up.stop()
    shutil.rmtree(up.folder / "metadata")
    refused = recover("--data", up.folder, room=500)
    assert refused.returncode == 1
    assert "nothing has changed: File too large" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list(up.folder.glob("metadata*/*"))
    assert recover("--data", up.folder).returncode == 0
    up.start()
    all_come_back(up, bodies)


def test_a_link_to_another_disk_is_refused_before_the_work(up: Up, tmp_path: Path) -> None:
    up.start()
    fill(up, [300])
    up.stop()
    (up.folder / "metadata").rename(tmp_path / "elsewhere")
    (up.folder / "metadata").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    refused = recover("--data", up.folder)
    assert refused.returncode == 1
    assert "a link or a mounted disk" in refused.stderr


@pytest.mark.parametrize(("arguments", "said"), [
    (["--stores", "/nonexistent"], "none of these places is a store"),
    (["--trust", "abc", "--dry-run"], "64 hex digits"),
    (["somewhere"], "behind --stores"),
])
def test_wrong_use_is_exit_code_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    answer = recover("--data", tmp_path / "data", *arguments)
    assert answer.returncode == 2
    assert said in answer.stderr


def test_killed_at_any_time_it_leaves_nothing_half(up: Up, tmp_path: Path) -> None:
    up.start()
    bodies = fill(up, [10, 3_000_000])
    up.stop()
    shutil.rmtree(up.folder / "metadata")
    for delay in (0.2, 0.35, 0.5, 0.7):
        process = subprocess.Popen([sys.executable, "-m", "gateway", "recover", "--data",
                                    str(up.folder)], cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        metadata = up.folder / "metadata"
        if metadata.exists() and os.listdir(metadata):
            break
    else:
        assert recover("--data", up.folder).returncode == 0
    up.start()
    all_come_back(up, bodies)
