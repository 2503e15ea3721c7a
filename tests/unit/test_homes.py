"""Homes change while they are in use: at once for who asks, durable before they say so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from zerostor.clock import SystemClock
from zerostor.core.errors import BadRequest, Busy, UnknownHome
from zerostor.core.homes import AutoProcess, HomeKey, Quota
from zerostor.engine import homes as homes_module
from zerostor.engine.homes import Homes
from zerostor.homes.book import SqliteHomeBook

KEY = HomeKey("SHA256:abc", "ssh-ed25519 AAAA", "ann@laptop", 5.0)
OTHER = HomeKey("SHA256:def", "ssh-ed25519 BBBB", "ann@desk", 6.0)


class Folder:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.counted, self.counts = False, 0

    def count(self) -> None:
        self.counts += 1
        time.sleep(0.1)
        self.counted = True

    def prefer(self, preferred: object) -> None:
        pass

    def set_limit(self, limit: int) -> None:
        self.limit = limit


class Made:
    """Homes over a real book, with folders that only remember their limit."""

    def __init__(self, folder: Path) -> None:
        self.book = SqliteHomeBook(folder / "homes.db", SystemClock().now)
        self.homes = self.over(self.book)
        self.changed: list[str] = []
        self.homes.on_change(self.changed.append)

    def over(self, book: SqliteHomeBook) -> Homes:
        return Homes(book, lambda _, limit: Folder(limit),  # type: ignore[arg-type, return-value]
                     SystemClock(), limit=1000, quota=Quota.REFUSE)


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Made]:
    made = Made(tmp_path)
    await made.homes.load()
    yield made
    await made.book.close()


async def test_enable_is_idempotent_and_adds_what_is_said(made: Made) -> None:
    first = await made.homes.enable("ann", key=KEY)
    assert (first.limit, first.quota, first.keys, first.auto) == (1000, Quota.REFUSE, (KEY,), None)
    assert await made.homes.enable("ann", key=KEY) == first
    again = await made.homes.enable("ann", key=OTHER, limit=5, quota=Quota.DROP_OLDEST,
                                    auto=AutoProcess(1.0))
    assert again.keys == (KEY, OTHER)
    assert made.homes.folder("ann").limit == 5  # type: ignore[attr-defined]
    untouched = await made.homes.enable("ann")
    assert untouched == again
    off = await made.homes.enable("ann", auto=None)
    assert off == msgspec.structs.replace(again, auto=None)
    assert made.changed == ["ann"] * 5


async def test_what_was_changed_is_there_after_a_restart(made: Made) -> None:
    await made.homes.enable("ann", key=KEY, auto=AutoProcess(3.0))
    await made.homes.enable("bob", key=OTHER)
    await made.homes.disable("bob")
    again = made.over(made.book)
    await again.load()
    assert again.all() == made.homes.all()


async def test_a_home_without_a_key_is_not_made(made: Made) -> None:
    with pytest.raises(BadRequest, match="public key"):
        await made.homes.enable("ann")
    assert made.homes.find("ann") is None
    await made.homes.enable("ann", key=KEY)
    await made.homes.disable("ann")
    with pytest.raises(BadRequest, match="public key"):
        await made.homes.enable("ann", limit=5)


async def test_a_home_that_was_closed_has_none_of_its_keys_when_it_comes_back(made: Made) -> None:
    await made.homes.enable("ann", key=KEY, limit=77)
    closed = await made.homes.disable("ann")
    assert (closed.enabled, closed.keys) == (False, ())
    back = await made.homes.enable("ann", key=OTHER)
    assert (back.enabled, back.keys, back.limit) == (True, (OTHER,), 77)


async def test_a_revoked_key_is_gone_at_once_and_others_stay(made: Made) -> None:
    await made.homes.enable("ann", key=KEY)
    await made.homes.enable("ann", key=OTHER)
    await made.homes.revoke("ann", KEY.fingerprint)
    found = made.homes.find("ann")
    assert found is not None and found.keys == (OTHER,)
    with pytest.raises(BadRequest, match="SHA256:def"):
        await made.homes.revoke("ann", KEY.fingerprint)


@pytest.mark.parametrize("user", ["", "Ann", "a/b", "..", ".x", "-x", "a" * 33, "ann\n", "änn"])
async def test_strange_names_are_refused(made: Made, user: str) -> None:
    with pytest.raises(BadRequest):
        await made.homes.enable(user, key=KEY)


async def test_what_is_unknown_says_how_to_make_it(made: Made) -> None:
    for step in (made.homes.disable("eve"), made.homes.revoke("eve", "x")):
        with pytest.raises(UnknownHome, match="ssh-enable"):
            await step
    with pytest.raises(UnknownHome):
        made.homes.folder("eve")


async def test_keys_and_homes_are_bounded(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homes_module, "KEYS_MAX", 2)
    monkeypatch.setattr(homes_module, "HOMES_MAX", 1)
    await made.homes.enable("ann", key=KEY)
    await made.homes.enable("ann", key=OTHER)
    with pytest.raises(BadRequest, match="at most 2"):
        await made.homes.enable("ann", key=msgspec.structs.replace(KEY, fingerprint="third"))
    with pytest.raises(Busy):
        await made.homes.enable("bob", key=KEY)


async def test_programs_that_write_unseen_are_counted(made: Made) -> None:
    await made.homes.enable("ann", key=KEY, auto=AutoProcess())
    async with made.homes.outside("ann", False), made.homes.outside("ann", True):
        assert made.homes.written_outside("ann")
        assert await made.book.outside("ann")
    assert not made.homes.written_outside("ann")
    while await made.book.outside("ann"):
        await asyncio.sleep(0.01)


async def test_a_home_is_counted_once_for_all_who_wait(made: Made) -> None:
    await made.homes.enable("ann", key=KEY)
    gone = asyncio.ensure_future(made.homes.counted("ann"))
    await asyncio.sleep(0)
    gone.cancel()
    found = await asyncio.gather(*(made.homes.counted("ann") for _ in range(20)))
    assert {folder.counted for folder in found} == {True}
    assert found[0].counts == 1  # type: ignore[attr-defined]
