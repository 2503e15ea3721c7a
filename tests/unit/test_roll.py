"""The roll of stores: the newest word on each counts, in whatever order hosts hear of it."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.memory_board import MemoryBoard
from zerostor.clock import SystemClock
from zerostor.config import load
from zerostor.core.cluster_token import ClusterKey
from zerostor.core.errors import SetupError, StoreUnavailable
from zerostor.core.roll import Roll, RollEntry, decode_roll, encode_roll, merged, rolled
from zerostor.core.settings import StoreSettings
from zerostor.roll_file import RollFile
from zerostor.store_wiring import RunningStores, start_store

ADDED = RollEntry("new", 5, "dir:///new", labels={"host": "h"})


def test_hosts_that_hear_words_in_any_order_agree() -> None:
    rng = random.Random(3)
    words = [RollEntry(rng.choice("abc"), rng.randrange(4), draining=rng.random() < 0.5,
                       removed=rng.random() < 0.3) for _ in range(6)]
    found = set()
    for order in itertools.permutations(words):
        roll = Roll()
        for word in order:
            roll = merged(roll, Roll(stores=(word,)))
        found.add(encode_roll(roll))
    assert len(found) == 1
    assert decode_roll(found.pop()) == roll


def test_the_last_word_said_here_counts_whatever_the_clock_says() -> None:
    roll = Roll().said(RollEntry("a", 1000, draining=True)).said(RollEntry("a", 7))
    assert roll.of("a") == RollEntry("a", 1001)
    assert roll.draining == frozenset()


def test_it_is_laid_over_the_settings() -> None:
    old, other = StoreSettings("old", "dir:///old"), StoreSettings("other", "dir:///other")
    roll = Roll().said(ADDED).said(RollEntry("old", 1, removed=True))
    assert rolled([old, other], roll) == (other, ADDED.settings)
    written = StoreSettings("new", "dir:///new/", labels={"host": "in the file"})
    assert rolled([written], roll) == (written,), "the settings name it by now"
    moved = StoreSettings("new", "dir:///elsewhere")
    assert rolled([moved], roll) == (ADDED.settings,)


@pytest.mark.parametrize("text", ["[]", "{", '{"version": 2}', '{"stores": [{"name": 1}]}'])
def test_a_roll_that_makes_no_sense_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "stores.json").write_text(text)
    with pytest.raises(SetupError, match=r"stores\.json: the roll"):
        load(tmp_path, environ={})


def test_settings_are_read_with_the_roll_over_them(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("sesame\n")
    RollFile(tmp_path / "stores.json").change(
        lambda roll: roll.said(RollEntry("00", 1, removed=True)).said(RollEntry(
            "far", 1, "zdb://far:9900/here", password_file=str(password))))
    config = load(tmp_path, environ={})
    assert [store.name for store in config.store] == [f"{n:02}" for n in range(1, 20)] + ["far"]
    assert config.store[-1].password.reveal() == "sesame"
    assert (tmp_path / "stores.json").stat().st_mode & 0o777 == 0o600
    RollFile(tmp_path / "stores.json").change(
        lambda roll: roll.said(RollEntry("01", 2, removed=True)))
    with pytest.raises(SetupError, match="add stores"):
        load(tmp_path, environ={})


def test_only_passwords_in_their_folder_are_read_for_who_asks(tmp_path: Path) -> None:
    """Else whoever may add a store has the keys of the host sent to a server of his."""
    file, folder = RollFile(tmp_path / "stores.json"), tmp_path / "passwords"
    folder.mkdir()
    (tmp_path / "identity").write_text("secret")
    (folder / "far").write_text("sesame")
    (folder / "led").symlink_to(tmp_path / "identity")

    def require(path: Path | str) -> None:
        file.require_own(StoreSettings("far", "zdb://far:9900/here", password_file=str(path)))

    require("")
    require(folder / "far")
    for wrong in (tmp_path / "identity", folder / "led", folder / ".." / "identity", "/etc/shadow",
                  folder):
        with pytest.raises(SetupError, match="lies in"):
            require(wrong)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.02)


def stores_below(folder: Path, name: str, count: int = 3) -> list[StoreSettings]:
    found = []
    for number in range(count):
        settings = StoreSettings(f"{name}{number}", f"dir://{folder}/{name}{number}")
        start_store(settings)
        found.append(settings)
    return found


async def test_a_running_process_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one process says is true there at once, and in another that shares the file soon."""
    monkeypatch.setattr("zerostor.store_wiring.ROLL_SECONDS", 0.02)
    settings = stores_below(tmp_path, "s")
    here, there = (RunningStores(settings, RollFile(tmp_path / "stores.json"), "", SystemClock())
                   for _ in range(2))
    following = asyncio.ensure_future(there.follow(MemoryBoard(SystemClock()), None))
    try:
        new = StoreSettings("new", f"dir://{tmp_path}/new")
        assert await here.start(new) == ""
        await here.say(RollEntry("new", 1, new.url))
        assert "new" in here.pool.names and here.pool.takes("new")
        await until(lambda: "new" in there.pool.names)
        await there.pool.stores["new"].put("k", [b"abc"])
        await here.say(RollEntry("s0", 1, draining=True))
        await until(lambda: there.pool.draining == {"s0"})
        assert not there.pool.takes("s0")
        await here.say(RollEntry("s0", 2, removed=True))
        await until(lambda: not there.pool.known("s0"))
        with pytest.raises(StoreUnavailable, match="removed"):
            await there.pool.stores["s0"].size("k")
        assert [one.name for one in there.settings] == ["s1", "s2", "new"]
        with pytest.raises(SetupError, match="same place"):
            await here.start(StoreSettings("twin", f"dir://{tmp_path}/s1"))
    finally:
        following.cancel()
        await here.close()
        await there.close()


async def test_other_hosts_hear_of_it_if_they_are_of_the_cluster(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerostor.store_wiring.ROLL_SECONDS", 0.02)
    board, hosts, tasks = MemoryBoard(SystemClock()), [], []
    for name in ("one", "two", "alone", "stranger"):
        folder = tmp_path / name
        folder.mkdir()
        hosts.append(RunningStores(stores_below(tmp_path, f"{name}-"),
                                   RollFile(folder / "stores.json"), "", SystemClock()))
    keys = [ClusterKey("a secret of both"), ClusterKey("a secret of both"), None,
            ClusterKey("another secret")]
    one, two, alone, stranger = hosts
    try:
        await stranger.say(RollEntry("forged", 10**15, f"dir://{os.devnull}"))
        await one.say(RollEntry("x", 1, f"dir://{tmp_path}/x"))
        tasks = [asyncio.ensure_future(host.follow(board, key))
                 for host, key in zip(hosts[:3], keys[:3], strict=True)]
        await until(lambda: two.pool.known("x"))
        await two.say(RollEntry("x", 1, draining=True, url=f"dir://{tmp_path}/x"))
        await until(lambda: one.pool.draining == {"x"})
        assert not alone.pool.known("x")
        tasks.append(asyncio.ensure_future(stranger.follow(board, keys[3])))
        await asyncio.sleep(0.5)
        assert not any(host.pool.known("forged") for host in (one, two, alone))
    finally:
        for task in tasks:
            task.cancel()
        for host in hosts:
            await host.close()
