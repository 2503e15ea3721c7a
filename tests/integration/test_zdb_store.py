"""Stores in 0-db namespaces: markers, errors, leftovers, cuts, what is fetched and what is not."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator

import pytest

from tests.fakes.cutting_proxy import Cut, CuttingProxy
from tests.fakes.user_zdb import UserZdb
from zerostor.clock import SystemClock
from zerostor.core.errors import (
    SetupError,
    ShardCorrupt,
    ShardMissing,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
)
from zerostor.core.health import StoreState
from zerostor.core.limits import KIB, MIB
from zerostor.core.zdb_shard import Head
from zerostor.core.zdb_url import ZdbPlace
from zerostor.resp_client import Address
from zerostor.stores.guarded import GuardedStore
from zerostor.stores.zdb import HEAD_PARTS, LEFTOVER_SECONDS, UNNAMED_SECONDS, ZdbStore
from zerostor.stores.zdb_namespace import initialise

NS = b"shards"
BODY = random.Random(1).randbytes(300 * KIB)


def place(address: Address, namespace: str = "shards") -> ZdbPlace:
    return ZdbPlace("", address.host, address.port, namespace, "", 256 * KIB)


@pytest.fixture
async def server() -> AsyncIterator[UserZdb]:
    made = UserZdb()
    made.address = await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def store(server: UserZdb) -> AsyncIterator[ZdbStore]:
    await initialise("one", place(server.address))
    made = ZdbStore("one", place(server.address), monotonic=lambda: made.at)
    made.at = 0.0
    yield made
    await made.close()


async def read(store: ZdbStore, key: str, offset: int, length: int) -> bytes:
    into = bytearray(length)
    await store.read(key, offset, memoryview(into))
    return bytes(into)


def parts_of(server: UserZdb) -> list[bytes]:
    return [key for key in server.spaces[NS].entries if key.startswith(b"p:")]


async def test_a_namespace_is_made_in_user_mode_and_marked_once(server: UserZdb) -> None:
    marker = await initialise("one", place(server.address), "")
    assert server.spaces[NS].mode == b"user"
    assert await initialise("one", place(server.address)) == marker
    with pytest.raises(SetupError, match="that of store one, not of two"):
        await initialise("two", place(server.address))


async def test_a_namespace_of_somebody_else_is_left_alone(server: UserZdb) -> None:
    session = ZdbPlace("", server.address.host, server.address.port, "default")
    server.spaces[b"default"].entries[b"k"] = (0, b"v", 0)
    with pytest.raises(SetupError, match="not empty, it has 1 entries"):
        await initialise("one", session)
    server.spaces[b"default"].mode = b"seq"
    with pytest.raises(SetupError, match="sequential mode"):
        await initialise("one", session)


async def test_with_the_password_of_the_admin(server: UserZdb) -> None:
    server.admin = b"s3cret"
    with pytest.raises(SetupError, match=r"let its admin run NSNEW shards"):
        await initialise("one", place(server.address))
    await initialise("one", place(server.address), "s3cret")
    assert server.spaces[NS].password == b"s3cret"
    for password, why in (("", "password_file"), ("wrong", "password is wrong")):
        stranger = ZdbStore("one", place(server.address), password)
        with pytest.raises(StoreUnavailable, match=why):
            await stranger.probe()
        await stranger.close()
    store = ZdbStore("one", place(server.address), "s3cret")
    await store.put("k", [b"abc"])
    assert await read(store, "k", 1, 2) == b"bc"
    assert "s3cret" not in repr(store)
    await store.close()


@pytest.mark.parametrize(("change", "why"), [
    ("nothing", "NSNEW"), ("sequential", "sequential mode"), ("unmarked", "stores init one"),
    ("other", "that of store two"), ("junk", "makes no sense"),
])
async def test_a_place_that_is_not_the_stores_is_neither_read_nor_written(
    server: UserZdb, change: str, why: str
) -> None:
    if change != "nothing":
        await initialise("two" if change == "other" else "one", place(server.address))
        entries = server.spaces[NS].entries
        if change == "sequential":
            server.spaces[NS].mode = b"seq"
        if change == "unmarked":
            entries.clear()
        if change == "junk":
            entries[b".zerostor-store"] = (0, b"{]", 0)
        before = dict(entries)
    store = ZdbStore("one", place(server.address))
    for call in (store.probe(), store.put("k", [b"v"]), store.size("k"), store.delete("k")):
        with pytest.raises(StoreUnavailable, match=why):
            await call
    if change != "nothing":
        assert server.spaces[NS].entries == before
    await store.close()


async def test_a_namespace_that_is_wiped_is_noticed(server: UserZdb, store: ZdbStore) -> None:
    watched = GuardedStore(store, SystemClock())
    await watched.put("k", [b"v"])
    server.spaces[NS].entries.clear()
    assert await watched.check() is StoreState.DOWN
    assert "wiped" in watched.reason
    await initialise("one", place(server.address))
    assert await watched.check() is StoreState.DOWN, "it is a new one under the old name"
    assert "replaced by another" in watched.reason


async def test_what_the_server_refuses_is_named(server: UserZdb, store: ZdbStore) -> None:
    await store.put("k", [b"value"])
    space = server.spaces[NS]
    watched = GuardedStore(store, SystemClock())
    space.flags[b"lock"] = True
    with pytest.raises(StoreReadOnly, match="locked"):
        await store.put("x", [b"v"])
    assert await watched.check() is StoreState.DOWN
    assert (watched.read_state, await read(store, "k", 0, 5)) == (StoreState.UP, b"value")
    space.flags[b"lock"] = False
    space.flags[b"worm"] = True
    with pytest.raises(StoreReadOnly, match="worm"):
        await store.probe()
    space.flags[b"worm"] = False
    space.flags[b"freeze"] = True
    with pytest.raises(StoreUnavailable, match="frozen") as caught:
        await store.probe()
    assert not isinstance(caught.value, StoreReadOnly), "it cannot be read either"
    space.flags[b"freeze"] = False
    space.limit = space.used + 100
    with pytest.raises(StoreFull, match="No space left"):
        await store.put("x", [bytes(1000)])
    assert parts_of(server) == [key for key in parts_of(server) if b":k:" in key]
    space.limit = space.used - 1
    await store.probe()
    server.says = lambda command, key: "Internal Error" if key.startswith(b"p:") else None
    with pytest.raises(ShardCorrupt, match="Internal Error"):
        await read(store, "k", 0, 5)
    server.says = lambda command, key: "Something new" if command == b"SETX" else None
    with pytest.raises(StoreUnavailable, match="Something new"):
        await store.put("x", [b"v"])


async def test_capacity_is_the_quota_or_the_disk(server: UserZdb, store: ZdbStore) -> None:
    used = server.spaces[NS].used
    assert await store.capacity() == (1_000_000_000 + used, 1_000_000_000)
    server.spaces[NS].limit = 10_000
    assert await store.capacity() == (10_000, 10_000 - used)
    server.spaces[NS].limit = 1
    assert await store.capacity() == (1, 0)


async def test_a_range_fetches_little_more_than_it_needs(server: UserZdb, store: ZdbStore) -> None:
    writer = await store.create("unit", None)
    for number in range(4):
        await writer.extend([BODY, b"trailer %d" % number])
    await writer.abort()
    server.commands.clear()
    assert await read(store, "unit", 2 * len(BODY) + 18 + 70_000, 10_000) == BODY[70_000:80_000]
    assert len(server.commands) == 1, "the head is known, and one part has it all"
    key = server.commands[0][1]
    assert len(server.spaces[NS].entries[key][1]) == 64 * KIB
    assert await read(store, "unit", 4 * len(BODY) + 27, 9) == b"trailer 3"
    await store.put("cells", [BODY, BODY, b"tail"])
    cells = sorted(key for key in parts_of(server) if b":cells:" in key)
    sizes = [len(server.spaces[NS].entries[key][1]) for key in cells]
    assert sizes == [256 * KIB, 44 * KIB] * 2 + [4]


async def test_a_shard_that_grows_elsewhere_is_seen(server: UserZdb, store: ZdbStore) -> None:
    other = ZdbStore("one", place(server.address))
    writer = await other.create("grows", None)
    for number in range(1, 4):
        await writer.extend([b"x" * 1000])
        assert await read(store, "grows", 0, number * 1000) == b"x" * 1000 * number
        assert await store.size("grows") == number * 1000
    await other.delete("grows")
    with pytest.raises(ShardMissing):
        await read(store, "grows", 0, 10)
    assert parts_of(server) == []
    await other.close()


async def test_replacing_a_shard_leaves_no_part_of_the_old_one(
    server: UserZdb, store: ZdbStore
) -> None:
    for number in range(3):
        await store.put("k", [bytes([number]) * MIB])
    assert len(parts_of(server)) == 4
    assert await read(store, "k", 0, MIB) == bytes([2]) * MIB


@pytest.mark.parametrize("lost", ["part", "head", "short part", "head of junk"])
async def test_damage_is_said(server: UserZdb, store: ZdbStore, lost: str) -> None:
    await store.put("k", [BODY])
    entries, part = server.spaces[NS].entries, parts_of(server)[1]
    if lost == "part":
        del entries[part]
    elif lost == "short part":
        entries[part] = (0, entries[part][1][:-1], 0)
    else:
        entries[b"s:k"] = (0, b"junk", 0)
        store._heads.clear()
    if lost == "head":
        del entries[b"s:k"]
    with pytest.raises(ShardMissing if lost == "head" else ShardCorrupt, match="shard k"):
        await read(store, "k", 0, len(BODY))
    await store.delete("k")
    assert [key async for key in store.keys()] == []  # noqa: SIM118


async def test_leftovers_of_writers_that_died_are_swept_when_they_are_old(
    server: UserZdb, store: ZdbStore
) -> None:
    await store.put("whole", [BODY])
    volume = await store.create("volume", None)
    await volume.extend([b"first"])
    dead = await store.create("dead", None)
    await dead.write(BODY)
    server.spaces[NS].entries[b"p:volume:" + volume._generation.encode() + b":1"] = (
        server.next_order(), b"of an extend that died", server.now())
    server.spaces[NS].entries[b"s:of somebody else"] = (server.next_order(), b"junk", 0)
    assert [key async for key in store.keys()] == ["whole", "volume"]  # noqa: SIM118
    before = dict(server.spaces[NS].entries)
    assert await store.sweep() == 0
    later = server.now() + LEFTOVER_SECONDS + 10
    server.now = lambda: later
    assert await store.sweep() == 0, "a clock that jumps makes nothing old"
    store.at += UNNAMED_SECONDS
    assert await store.sweep() == 3
    gone = before.keys() - server.spaces[NS].entries.keys()
    assert gone == {key for key in gone if b":dead:" in key or key.endswith(b":1")}
    assert await read(store, "whole", 0, len(BODY)) == BODY
    assert await read(store, "volume", 0, 5) == b"first"


async def test_what_is_being_written_is_never_swept(server: UserZdb, store: ZdbStore) -> None:
    """However the server's clock jumps; and what takes too long is not said to be stored."""
    slow, volume = await store.create("slow", None), await store.create("volume", None)
    await volume.extend([b"0"])
    await slow.write(BODY)
    for number in range(1, 5):
        later = server.now() + 1000 * LEFTOVER_SECONDS
        server.now = lambda later=later: later
        store.at += UNNAMED_SECONDS / 4
        await volume.extend([b"%d" % number])
        assert await store.sweep() == 0
    await slow.commit([b"end"])
    assert await read(store, "slow", 0, len(BODY) + 3) == BODY + b"end"
    assert await read(store, "volume", 0, 5) == b"01234"
    slower = await store.create("slower", None)
    await slower.write(BODY)
    store.at += UNNAMED_SECONDS + 1
    with pytest.raises(StoreUnavailable, match="may have been swept"):
        await slower.commit()
    with pytest.raises(ShardMissing):
        await store.size("slower")


async def test_a_sweep_ends_while_others_write(server: UserZdb, store: ZdbStore) -> None:
    server.page, seconds = 2, itertools.count(server.now())
    server.now = lambda: next(seconds)
    space = server.spaces[NS]

    def write(command: bytes, _: bytes) -> None:
        if command == b"SCANX":
            for _ in range(2):
                number = server.next_order()
                space.entries[b"p:k:" + b"0" * 12 + b":%d" % number] = (number, b"", server.now())

    server.says = write
    async with asyncio.timeout(20):
        assert await store.sweep() == 0


async def test_heads_that_are_kept_are_bounded(server: UserZdb, store: ZdbStore) -> None:
    for number in range(40):
        store.remember(f"k{number}", Head("0" * 12, (1,) * (HEAD_PARTS // 16)))
    assert 14 <= len(store._heads) <= 16
    assert "k39" in store._heads
    assert store._head_parts == sum(len(head.parts) + 1 for head in store._heads.values())


@pytest.mark.parametrize("cut", [cut for cut in Cut if cut is not Cut.NONE])
@pytest.mark.parametrize("trigger", [b"p:k:", b"s:k"])
async def test_connections_that_break_off_cost_nothing(
    server: UserZdb, store: ZdbStore, cut: Cut, trigger: bytes
) -> None:
    proxy = CuttingProxy(server.address)
    through = ZdbStore("one", place(await proxy.start()))
    proxy.cut, proxy.trigger = cut, trigger
    await through.put("k", [BODY])
    assert proxy.cut is Cut.NONE
    proxy.cut, proxy.trigger = cut, b"GET"
    assert await read(through, "k", 0, len(BODY)) == BODY
    proxy.cut, proxy.trigger = cut, trigger
    await through.delete("k")
    assert set(server.spaces[NS].entries) == {b".zerostor-store"}
    await through.close()
    await proxy.close()


@pytest.mark.parametrize("cut", [cut for cut in Cut if cut is not Cut.NONE])
@pytest.mark.parametrize("grown", [False, True])
async def test_a_shard_whose_head_nobody_answered_for_is_whole_or_not_there(
    server: UserZdb, store: ZdbStore, cut: Cut, grown: bool
) -> None:
    proxy = CuttingProxy(server.address)
    through = ZdbStore("one", place(await proxy.start()))
    writer = await through.create("k", None)
    if grown:
        await writer.extend([b"first"])
    proxy.cut, proxy.trigger, proxy.for_good = cut, b"SETX\r\n$3\r\ns:k", True
    with pytest.raises(StoreUnavailable):
        await writer.extend([BODY])
    proxy.revive()
    await writer.abort()
    landed = cut in (Cut.AFTER, Cut.HALF_REPLY)
    wanted = (b"first" if grown else b"") + (BODY if landed else b"")
    if wanted:
        assert await store.size("k") == len(wanted)
        assert await read(store, "k", 0, len(wanted)) == wanted
    else:
        with pytest.raises(ShardMissing):
            await store.size("k")
    later = server.now() + LEFTOVER_SECONDS + 10
    server.now = lambda: later
    await store.sweep()
    store.at += UNNAMED_SECONDS
    await store.sweep()
    assert sum(len(server.spaces[NS].entries[key][1]) for key in parts_of(server)) == len(wanted)
    await through.close()
    await proxy.close()


async def test_a_server_that_is_away_is_said_soon_and_found_again(
    server: UserZdb, store: ZdbStore
) -> None:
    await store.put("k", [b"value"])
    await server.stop()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=f":{server.address.port}"):
            await asyncio.wait_for(read(store, "k", 0, 5), 5)
    await server.start(server.address.port)
    assert await read(store, "k", 0, 5) == b"value"
