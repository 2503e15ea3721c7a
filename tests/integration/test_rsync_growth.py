"""How what is free in a home is shared among its rsync runs, and with those who write otherwise."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sshgw import growth as growth_module
from sshgw.growth import AHEAD, SHARE_MIN, UNSEEN, WHOLE, Growth
from tests.fakes.homes import fill, home_of
from zerostor.clock import SystemClock
from zerostor.core.homes import HomeUsage
from zerostor.homes.folder import Folder


class Run:
    """A run that has written and taken in what it is told."""

    def __init__(self) -> None:
        self.received = 0
        self.waiting = 0
        self.wrote = 0
        self.may_write = 0
        self.may_receive = 0
        self.full: HomeUsage | None = None
        self.open: set[int] = set()
        self.asked: Callable[[], None] = lambda: None

    async def written(self) -> int:
        self.asked()
        return self.wrote

    def has_open(self) -> set[int]:
        return self.open

    def grant(self, written: int, received: int) -> None:
        self.may_write, self.may_receive = written, received

    def refuse(self, usage: HomeUsage) -> None:
        self.full = usage

    def write(self, home: Folder, name: str, size: int) -> None:
        """As rsync: the folder is not told."""
        Path(home.root, name).write_bytes(bytes(size))
        self.received += size
        self.wrote += size


@pytest.fixture
def home(tmp_path: Path) -> Folder:
    return home_of(tmp_path / "home", 10_000_000)


@pytest.fixture
async def growth(home: Folder):
    made = Growth(home, SystemClock(), lambda: False, lambda files: None)
    yield made
    for run in list(made._runs):
        await made.leave(run)


async def test_a_run_has_half_of_what_is_free_and_nobody_else_has_that(home, growth):
    run = Run()
    await growth.join(run)
    assert (run.may_receive, run.may_write) == (5_000_000, 5_000_000 + AHEAD)
    with pytest.raises(OSError) as caught:
        fill(home, b"/a", bytes(5_000_001))
    assert caught.value.errno == errno.EDQUOT
    fill(home, b"/a", bytes(5_000_000))
    await growth.leave(run)
    fill(home, b"/b", bytes(5_000_000))


async def test_what_little_is_free_is_for_the_run(home, growth):
    fill(home, b"/a", bytes(10_000_000 - WHOLE))
    run = Run()
    await growth.join(run)
    assert run.may_receive == WHOLE


async def test_runs_share(home, growth):
    one, two = Run(), Run()
    await growth.join(one)
    await growth.join(two)
    assert two.may_receive == 2_500_000
    assert one.may_receive == 2_500_000 - UNSEEN


async def test_a_share_that_is_spent_is_renewed_from_what_is_left(home, growth):
    run = Run()
    await growth.join(run)
    run.write(home, "a", 5_000_000)
    await growth.settle(run)
    assert home.usage.used == 5_000_000
    assert run.may_receive == 5_000_000 + 2_500_000
    assert run.full is None


async def test_names_are_bounded_though_they_take_no_bytes(home, growth, monkeypatch):
    """Who asks for nothing is looked at now and then; who had more before may tidy up."""
    monkeypatch.setattr(growth_module, "HOME_ENTRIES_MAX", 10)
    monkeypatch.setattr(growth_module, "REST_MIN", 0.01)
    growth._rest = 0.01
    run = Run()
    await growth.join(run)
    for number in range(8):
        Path(home.root, f"d{number}").mkdir()
    run.write(home, "a", 0)
    run.write(home, "b", 0)
    run.wrote += 1
    async with asyncio.timeout(30):
        while home.entries < 10:
            await asyncio.sleep(0.01)
    assert run.full is None
    run.write(home, "c", 0)
    run.wrote += 1
    async with asyncio.timeout(30):
        while run.full is None:
            await asyncio.sleep(0.01)
    await growth.leave(run)
    tidy = Run()
    await growth.join(tidy)
    Path(home.root, "a").unlink()
    await growth.settle(tidy)
    assert tidy.full is None


async def test_bytes_on_their_way_count_as_taken_in(home, growth):
    one, two = Run(), Run()
    await growth.join(one)
    one.received, one.waiting = 1_000_000, 200_000
    await growth.join(two)
    assert one.may_receive == 800_000 - UNSEEN + 2_500_000


async def test_a_count_waits_for_what_was_taken_in(home, growth):
    run = Run()
    await growth.join(run)
    slow = iter((1_000_000, 2_000_000, 5_000_000))

    def goes_on() -> None:
        if (size := next(slow, 0)) > 0:
            Path(home.root, "a").write_bytes(bytes(size))
            run.wrote = size

    run.asked = goes_on
    run.received = 5_000_000
    await growth.settle(run)
    assert home.usage.used == 5_000_000


async def test_the_full_home_refuses_who_asks_and_nobody_else(home, growth):
    one, two = Run(), Run()
    await growth.join(one)
    await growth.join(two)
    one.write(home, "a", 10_000_000)
    await growth.settle(one)
    assert one.full is None
    assert one.may_receive == 10_000_000 + SHARE_MIN
    one.write(home, "b", SHARE_MIN)
    await growth.settle(one)
    assert one.full is not None
    assert one.full.used == 10_000_000 + SHARE_MIN
    assert two.full is None
    assert growth.runs == 1


async def test_a_home_beyond_its_limit_may_not_grow_but_shrink(home, growth):
    Path(home.root, "a").write_bytes(bytes(12_000_000))
    run = Run()
    await growth.join(run)
    assert run.may_receive == SHARE_MIN
    run.write(home, "a", 11_000_000)
    await growth.settle(run)
    assert run.full is None
    run.write(home, "b", 2_000_000)
    await growth.settle(run)
    assert run.full is not None


async def test_those_who_wait_at_once_are_counted_for_once(home, growth, monkeypatch):
    run = Run()
    await growth.join(run)
    counts = []
    recount = home.recount
    monkeypatch.setattr(home, "recount", lambda: counts.append(1) or recount())
    await asyncio.gather(*(growth.settle(run) for _ in range(5)))
    assert len(counts) == 1


async def test_the_oldest_go_when_a_home_is_full_and_not_before(home, growth):
    gone: list[bytes] = []
    dropping = Growth(home, SystemClock(), lambda: True,
                      lambda files: gone.extend(file.path for file in files))  # fmt: skip
    fill(home, b"/a", bytes(9_900_000))
    run = Run()
    await dropping.join(run)
    assert gone == []
    run.write(home, "b", 100_000)
    run.open = {os.stat(home.root + "/b").st_ino}
    await dropping.settle(run)
    assert gone == [b"/a"]
    assert run.may_receive == 100_000 + 9_900_000 // 2
    await dropping.leave(run)
