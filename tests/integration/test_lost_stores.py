"""Stores and shards that are gone, lie, hang or have no room: right bytes, or an honest refusal."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.fakes.running_up import Up, content_of, digest, has_strace, strace
from zerostor.core.limits import CELL_SIZE, MIB
from zerostor.stores.folder_marker import MARKER

STRIPE = 16 * CELL_SIZE
LARGE = STRIPE + MIB + 12_345
"""Two stripes, the second with small cells."""
MEDIUM = 3 * MIB + 1
"""Too large for a pack: shards of its own."""
NAMES = [f"{number:02d}" for number in range(20)]


@pytest.fixture
def rng():
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    # What is lost here stays lost: nobody mends it meanwhile.
    with Up(tmp_path_factory.mktemp("lost") / "zerostor", "[keeper]\nenabled = false\n") as running:
        yield running


def assert_right(up: Up, link: str, body: bytes) -> None:
    """Whole, in ranges, and by HEAD."""
    answer = up.get(link)
    assert (answer.status, digest(answer.body)) == (200, digest(body)), answer.body[:300]
    rng, size = random.Random(len(body)), len(body)
    cuts = {0, 1, CELL_SIZE - 1, CELL_SIZE, STRIPE - 1, STRIPE, size - 1}
    starts = sorted(cut for cut in cuts if cut < size) + [rng.randrange(size) for _ in range(4)]
    for start in starts:
        end = min(size, start + rng.choice([1, 5000, CELL_SIZE + 1]))
        answer = up.get(link, {"Range": f"bytes={start}-{end - 1}"})
        assert answer.status == 206, (start, answer.body)
        assert answer.body == body[start:end], (start, end)
    assert_head(up, link, body)


def assert_head(up: Up, link: str, body: bytes) -> None:
    head = up.ask("HEAD", link)
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(body)))


def honest(up: Up, link: str, body: bytes, start: int = 0) -> str:
    """What came of a download: whole, refused or broken; never a byte that is not right."""
    # Shorter than an idle connection is kept: one that is not broken off is found out.
    connection = http.client.HTTPConnection("127.0.0.1", up.port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", link, headers={"Range": f"bytes={start}-"})
        response = connection.getresponse()
        if response.status == 503:
            told = response.read()
            assert response.headers["Content-Type"].startswith("application/problem+json")
            assert b"urn:zerostor:object-unreadable" in told and b"good cells" in told
            assert response.headers["Retry-After"]
            return "refused"
        assert response.status == 206
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while more := response.read(CELL_SIZE):
                got += more
        assert body[start:].startswith(got)
        assert (len(got) == len(body) - start) == (response.length == 0)
        return "broken" if response.length else "whole"


def check(up: Up, link: str, mode: str) -> dict[str, object]:
    answer = up.get(f"/api/check{link[:57]}?mode={mode}")
    assert answer.status == 200, answer.body
    report: dict[str, object] = answer.json
    assert (report["total"], report["needed"]) == (20, 16)
    for shard in report["shards"]:
        assert (shard["state"] == "present") == (shard["detail"] == ""), shard
    return report


def states(up: Up, link: str, mode: str) -> list[str]:
    """Of each shard."""
    return [shard["state"] for shard in check(up, link, mode)["shards"]]


# Shards.


class Shard(NamedTuple):
    """The bytes at start..end of a file are the cells of one object, the first being `cell` long.
    """

    path: Path
    start: int
    end: int
    cell: int


def shards_of(up: Up, link: str) -> list[Shard]:
    stripes = up.stripes(link)
    end, cell = stripes.base + stripes.layout.shard_size, stripes.layout.stripe(0).cell
    return [Shard(path, stripes.base, end, cell) for path in up.shards(link)]


def overwrite(shard: Shard, at: int, piece: bytes) -> None:
    with open(shard.path, "r+b") as file:
        file.seek(at)
        file.write(piece)


def flip(shard: Shard, rng: random.Random, at: int = 0) -> None:
    """One bit of the first cell, or of the byte `at`."""
    at = at or shard.start + rng.randrange(shard.cell)
    overwrite(shard, at, bytes([shard.path.read_bytes()[at] ^ 1 << rng.randrange(8)]))


def fill(shard: Shard, piece: bytes) -> None:
    """All its cells, and the start of the trailer."""
    overwrite(shard, shard.start, piece[: shard.end - shard.start + 64])


def become(shard: Shard, make: Callable[[Path], object]) -> None:
    """Something else is there in its place."""
    shard.path.unlink()
    make(shard.path)


def extend(shard: Shard) -> None:
    with open(shard.path, "ab") as file:
        file.write(b"junk" * 5000)


DAMAGES: dict[str, tuple[Callable[[Shard, random.Random], object], str, str]] = {
    "flipped": (flip, "present", "corrupt"),
    "noise": (lambda s, rng: fill(s, rng.randbytes(LARGE)), "corrupt", "corrupt"),
    "zeroed": (lambda s, _: fill(s, bytes(LARGE)), "corrupt", "corrupt"),
    "emptied": (lambda s, _: os.truncate(s.path, 0), "corrupt", "corrupt"),
    "cut": (lambda s, _: os.truncate(s.path, s.start + s.cell // 2), "corrupt", "corrupt"),
    "no trailer": (lambda s, _: os.truncate(s.path, s.end + 3), "corrupt", "corrupt"),
    "shifted": (lambda s, _: s.path.write_bytes(b"x" + s.path.read_bytes()), "corrupt", "corrupt"),
    "missing": (lambda s, _: s.path.unlink(), "missing", "missing"),
    "locked": (lambda s, _: s.path.chmod(0), "corrupt", "corrupt"),
    "FIFO": (lambda s, _: become(s, os.mkfifo), "corrupt", "corrupt"),
    "folder": (lambda s, _: become(s, os.mkdir), "corrupt", "corrupt"),
    "endless": (lambda s, _: become(s, lambda path: os.symlink("/dev/zero", path)),
                "corrupt", "corrupt"),
}
"""How it is done; what a soft and what a hard check say."""


@pytest.mark.parametrize("kind", DAMAGES)
def test_four_damaged_shards_change_nothing_and_are_named(up, rng, kind):
    damage, soft, hard = DAMAGES[kind]
    body = content_of(LARGE)
    link, victims = up.store(body), rng.sample(range(20), 4)
    shards = shards_of(up, link)
    for victim in victims:
        damage(shards[victim], rng)
    assert_right(up, link, body)
    for mode, state in (("soft", soft), ("hard", hard)):
        expected = [state if index in victims else "present" for index in range(20)]
        assert states(up, link, mode) == expected, mode
    report = check(up, link, "hard")
    assert (report["state"], report["content"]) == ("degraded", "good")
    assert down(up) == set(), "a bad shard says nothing against its store"


@pytest.mark.parametrize("kind", sorted(set(DAMAGES) - {"no trailer"}))
def test_five_damaged_shards_are_said_and_never_served(up, rng, kind):
    damage = DAMAGES[kind][0]
    body = content_of(LARGE)
    link = up.store(body)
    for victim in rng.sample(shards_of(up, link), 5):
        damage(victim, rng)
    assert honest(up, link, body) != "whole"
    assert_head(up, link, body)
    report = check(up, link, "hard")
    assert (report["state"], report["good"]) == ("unreadable", 15)
    assert "15 good cells" in report["content"]


def test_junk_behind_a_shard_is_found_and_costs_nothing(up):
    body = content_of(MEDIUM)
    link = up.store(body)
    for shard in shards_of(up, link):
        extend(shard)
    assert_right(up, link, body)
    assert states(up, link, "hard") == ["corrupt"] * 20


@pytest.mark.parametrize("kinds", [list(DAMAGES)[start : start + 4] for start in (0, 4, 8)])
def test_a_pack_with_four_damaged_shards(up, rng, kinds):
    """Each in its own way; packs lie in shards that the worker still writes to."""
    body = content_of(100_000)
    link = up.store(body)
    shards, (*victims, fifth) = shards_of(up, link), rng.sample(range(20), 5)
    expected = ["present"] * 20
    for victim, kind in zip(victims, kinds, strict=True):
        damage, _, expected[victim] = DAMAGES[kind]
        damage(shards[victim], rng)
    assert_right(up, link, body)
    assert states(up, link, "hard") == expected
    flip(shards[fifth], rng)
    honest(up, link, body)  # its own bytes may all be in cells that are good
    assert_head(up, link, body)
    other = content_of(100_001)
    assert_right(up, up.store(other), other)


def swap(one: Shard, other: Shard) -> None:
    first, second = one.path.read_bytes(), other.path.read_bytes()
    one.path.write_bytes(second)
    other.path.write_bytes(first)


def test_shards_swapped_between_objects(up, rng):
    """Four of each, all of the right length."""
    bodies = [content_of(LARGE, seed) for seed in (1, 2)]
    links = [up.store(body) for body in bodies]
    one, other = (shards_of(up, link) for link in links)
    victims = rng.sample(range(20), 5)
    for victim in victims[:4]:
        swap(one[victim], other[victim])
    for link, body in zip(links, bodies, strict=True):
        assert_right(up, link, body)
        for mode in ("soft", "hard"):
            assert states(up, link, mode) == [
                "corrupt" if index in victims[:4] else "present" for index in range(20)]
    swap(one[victims[4]], other[victims[4]])
    for link, body in zip(links, bodies, strict=True):
        assert honest(up, link, body) != "whole"


def test_shards_swapped_between_stores(up, rng):
    body = content_of(LARGE)
    link = up.store(body)
    shards, victims = shards_of(up, link), rng.sample(range(20), 6)
    for one, other in (victims[:2], victims[2:4]):
        swap(shards[one], shards[other])
    assert_right(up, link, body)
    for mode in ("soft", "hard"):
        assert states(up, link, mode) == [
            "corrupt" if index in victims[:4] else "present" for index in range(20)]
    swap(shards[victims[4]], shards[victims[5]])
    assert honest(up, link, body) != "whole"


def test_what_becomes_unreadable_half_way_is_broken_off(up, rng):
    body = content_of(LARGE)
    link = up.store(body)
    for victim in rng.sample(shards_of(up, link), 5):
        flip(victim, rng, at=victim.start + victim.cell)  # where the second stripe begins
    assert honest(up, link, body) == "broken"
    assert honest(up, link, body, start=STRIPE) != "whole"
    assert up.get(link, {"Range": f"bytes=5-{STRIPE - 1}"}).body == body[5:STRIPE]
    assert_head(up, link, body)


# Whole stores.


def renamed(store: Path) -> None:
    store.rename(store.with_name(f"unplugged-{store.name}"))


def locked(store: Path) -> None:
    store.chmod(0)


def replaced(store: Path) -> None:
    renamed(store)
    store.write_text("not a folder")


def unmounted(store: Path) -> None:
    renamed(store)
    store.mkdir()


def dangling(store: Path) -> None:
    renamed(store)
    store.symlink_to("/nowhere")


def another(store: Path) -> None:
    """A disk of the right kind, in the wrong place."""
    renamed(store)
    store.mkdir()
    shutil.copy(store.with_name("00") / MARKER, store)


LOSSES = [renamed, locked, replaced, unmounted, dangling, another]


def bring_back(store: Path) -> None:
    kept = store.with_name(f"unplugged-{store.name}")
    if not kept.exists():
        store.chmod(0o700)
        return
    if store.is_symlink() or store.is_file():
        store.unlink()
    elif store.exists():
        shutil.rmtree(store)
    kept.rename(store)


@contextlib.contextmanager
def lost(up: Up, rng: random.Random, ways: list[Callable[[Path], None]]) -> Iterator[list[str]]:
    """Stores lost each in its way while the block runs; their names. Never store 00."""
    names = rng.sample(NAMES[1:], len(ways))
    try:
        for name, way in zip(names, ways, strict=True):
            way(up.folder / "stores" / name)
        yield names
    finally:
        for name in names:
            bring_back(up.folder / "stores" / name)
        up.all_up()


def down(up: Up) -> set[str]:
    return {name for name, store in up.stores().items() if store["state"] == "down"}


@pytest.mark.parametrize("ways", [LOSSES[:4], LOSSES[2:]])
def test_four_stores_gone_each_in_its_way(up, rng, ways):
    bodies = [content_of(size) for size in (10_000, 100_000, MEDIUM, LARGE)]
    links = [up.store(body) for body in bodies]
    with lost(up, rng, ways) as names:
        for link, body in zip(links, bodies, strict=True):
            assert_right(up, link, body)
        up.until(lambda: down(up) == set(names), "it is noticed")
        assert all(up.stores()[name]["reason"] for name in names)
        for link, body in zip(links, bodies, strict=True):
            assert_right(up, link, body)
            for mode in ("soft", "hard"):
                for shard in check(up, link, mode)["shards"]:
                    assert (shard["state"] == "unknown") == (shard["store"] in names), shard
            assert check(up, link, "hard")["content"] == "good"
        fifth = next(name for name in NAMES[1:] if name not in names)
        with up.unplugged(fifth):
            for _ in ("before it was noticed", "after"):
                for link, body in zip(links, bodies, strict=True):
                    honest(up, link, body)
                    assert_head(up, link, body)
                up.until(lambda: fifth in down(up), "it is noticed")
            assert honest(up, links[-1], bodies[-1]) == "refused"
            assert all(check(up, link, "hard")["good"] == 15 for link in links)
    for link in links:
        assert check(up, link, "hard")["state"] == "healthy"


def test_two_stores_down_do_not_stop_uploads(up, rng):
    """What was never written counts as lost: two more may go, and not three."""
    bodies = [content_of(size, 2) for size in (100_000, MEDIUM, LARGE)]
    with lost(up, rng, [renamed, unmounted]) as names:
        links = [up.store(body) for body in bodies]  # before it was noticed
        up.until(lambda: down(up) == set(names), "it is noticed")
        assert up.get("/readyz").status == 200
        links += [up.store(body) for body in bodies]
        for link, body in zip(links, bodies * 2, strict=True):
            assert_right(up, link, body)
    more = rng.sample([name for name in NAMES[1:] if name not in names], 3)
    with up.unplugged(*more[:2]):
        for link, body in zip(links, bodies * 2, strict=True):
            assert_right(up, link, body)
        with up.unplugged(more[2]):
            up.until(lambda: set(more) <= down(up), "it is noticed")
            assert honest(up, links[2], bodies[2]) == "refused"
    up.all_up()
    for link in links:
        report = check(up, link, "hard")
        assert (report["state"], report["good"]) == ("degraded", 18)
        assert [shard["detail"] for shard in report["shards"] if shard["state"] == "missing"] == [
            "never written"] * 2


def test_three_stores_down_make_uploads_wait_and_say_why(up, rng):
    bodies = [content_of(size, 3) for size in (10_000, 100_000, MEDIUM, LARGE)]
    before = len(up.records())
    with lost(up, rng, [renamed, locked, unmounted]) as names:
        jobs = [up.upload(body, ext="bin").job for body in bodies]
        jobs += [up.upload(body, ext="bin", wait=0.5).job for body in bodies]
        for job in jobs:
            # Not for long at a time: every 2 seconds it is tried again.
            up.until(lambda job=job: up.status(job)["state"] == "WAITING"
                     and "must be durable" in up.status(job)["detail"], "it says it waits")
            assert up.get(f"/api/status/{job}").body == b"ACTIVE"
        up.until(lambda: down(up) == set(names), "it is noticed")
        unready = up.get("/readyz")
        assert unready.status == 503 and "17 stores are up" in unready.json["problems"][0]
        assert len(up.records()) - before == 0
    for job, body in zip(jobs, bodies * 2, strict=True):
        link = up.stored(job)
        assert_right(up, link, body)
        assert check(up, link, "hard")["state"] == "healthy"
    assert len(up.records()) - before == len(jobs)
    assert up.get("/readyz").status == 200 and up.failed() == []


# Stores that hang.


@pytest.mark.skipif(not has_strace(), reason="needs strace")
@pytest.mark.parametrize("size", [100_000, MEDIUM, LARGE])
def test_a_hanging_store_is_read_around(up, rng, tmp_path, size):
    """Four of them, for far longer than any time limit."""
    body = content_of(size, 4)
    link = up.store(body)
    # A new one has no shard open: it does not ask the kernel for what is there without waiting,
    # which would hang here as well, and does not on a disk.
    up.kill("gateway")
    up.ready()
    stuck = [word for path in rng.sample(up.shards(link), 4) for word in ("-P", str(path))]
    trace, log = tmp_path / "trace", up.folder / "logs" / "gateway.log"
    told = len(log.read_text())
    rules = ["-e", "trace=preadv,preadv2", "-e", "inject=preadv,preadv2:delay_enter=100s"]
    with strace(up.pid("gateway"), *stuck, *rules, output=trace):
        assert digest(up.get(link).body) == digest(body)
        assert "did not answer" not in log.read_text()[told:], "a time limit was waited for"
    assert "preadv" in trace.read_text(), "nothing hung"
