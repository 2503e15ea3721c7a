"""What every MetadataStore promises, run against each adapter: in memory, and the real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.zdb_servers import real_zdb
from zerostor.core.errors import LogCorrupt, SetupError
from zerostor.core.resp import request
from zerostor.metadata.memory import MemoryMetadata
from zerostor.metadata.zdb import ZdbMetadata
from zerostor.ports import MetadataStore
from zerostor.resp_client import Address
from zerostor.zdb.server import ServerSettings, ZdbServer

KINDS = ["memory", "unix", "tcp", "unix 4-byte ids", "tcp one in flight", "tiny log files",
         "tcp, closed without the password", "real 0-db", "real 0-db, namespace with a password"]
PASSWORD = "the password"


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MetadataStore]:
    kind = request.param
    if kind == "memory":
        yield MemoryMetadata()
        return
    if "real" in kind:
        async with real_zdb(tmp_path, "--mode", "seq") as address:
            guarded = "password" in kind
            if guarded:
                await _guard(address, b"records")
            client = ZdbMetadata(address, namespace="records" if guarded else "default",
                                 password=PASSWORD if guarded else None)
            yield client
            await client.close()
        return
    unix = tmp_path / "zdb.sock"
    settings = ServerSettings(
        tmp_path / "log", unix=unix, host="127.0.0.1", port=0,
        id_bytes=4 if "4-byte" in kind else 8,
        segment_size=65536 if "tiny" in kind else 2**28,
        **({"admin_password": PASSWORD.encode(), "closed": True} if "closed" in kind else {}),
    )
    server = ZdbServer(settings)
    await server.start()
    assert server.port is not None
    address = Address(port=server.port) if "tcp" in kind else Address(unix=unix)
    client = ZdbMetadata(address, password=PASSWORD if "closed" in kind else None,
                         pipeline=False if "one in flight" in kind else None)
    yield client
    await client.close()
    await server.close()


async def _guard(address: Address, namespace: bytes) -> None:
    """Make a namespace that wants the password."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    for words in ([b"NSNEW", namespace], [b"NSSET", namespace, b"public", b"0"],
                  [b"NSSET", namespace, b"password", PASSWORD.encode()]):
        writer.write(request(words))
        assert await reader.readline() == b"+OK\r\n"
    writer.close()


async def everything(store: MetadataStore, start: int = 0) -> list[tuple[int, bytes]]:
    return [row async for row in store.scan(start)]


async def test_an_empty_store(store: MetadataStore) -> None:
    await store.ping()
    assert await store.get(0) is None
    assert await store.get(2**32 - 1) is None
    assert await everything(store) == []
    assert await store.reserve([]) == []
    await store.commit([])


async def test_notes_then_records(store: MetadataStore) -> None:
    ids = await store.reserve([b"one", b"two", b""])
    assert len(set(ids)) == 3
    assert [await store.get(key) for key in ids] == [b"one", b"two", b""]
    await store.commit([(ids[1], b"second record"), (ids[0], bytes(range(256)))])
    assert await store.get(ids[0]) == bytes(range(256))
    assert await store.get(ids[1]) == b"second record"
    assert await store.get(ids[2]) == b""


async def test_commit_is_idempotent_and_may_replace(store: MetadataStore) -> None:
    (key,) = await store.reserve([b"note"])
    for record in (b"a", b"a", b"b", b"note", b"b"):
        await store.commit([(key, record)])
        assert await store.get(key) == record
    await store.commit([(key, b"c"), (key, b"c"), (key, b"d")])
    assert await store.get(key) == b"d"


async def test_replace_changes_what_was_read_and_nothing_else(store: MetadataStore) -> None:
    first, second, third = await store.reserve([b"note 1", b"note 2", b"note 3"])
    assert await store.replace([]) == []
    assert await store.replace([
        (first, b"note 1", b"one"), (second, b"note 1", b"two"), (third, b"note 3", b"three"),
        (third + 100, b"note 3", b"nowhere"),
    ]) == [True, False, True, False]
    assert [await store.get(key) for key in (first, second, third)] == [b"one", b"note 2", b"three"]
    assert await store.get(third + 100) is None
    # Who lost the answer asks again, and who read before another's change is refused.
    assert await store.replace([(first, b"note 1", b"one")]) == [True]
    assert await store.replace([(first, b"note 1", b"other")]) == [False]
    assert await store.get(first) == b"one"
    await store.delete([second])
    assert await store.replace([(second, b"note 2", b"back")]) == [False]
    assert await store.get(second) is None


async def test_of_many_who_replace_at_once_one_does(store: MetadataStore,
                                                    request: pytest.FixtureRequest) -> None:
    if "real" in str(request.node.callspec.id):
        pytest.skip("a 0-db of the original project cannot compare and set")
    (key,) = await store.reserve([b"old"])
    for old in (b"old", b"second round"):
        wanted = [b"by %d, after " % number + old for number in range(20)]
        done = [one for (one,) in await asyncio.gather(*(
            store.replace([(key, old, new)]) for new in wanted))]
        assert done.count(True) == 1
        assert await store.get(key) == wanted[done.index(True)]
        await store.commit([(key, b"second round")])


async def test_ids_are_never_given_twice(store: MetadataStore) -> None:
    given: list[int] = []
    for turn in range(20):
        ids = await store.reserve([b"note"] * (turn % 3 + 1))
        await store.commit([(key, b"record %d" % key) for key in ids])
        assert min(ids) > max(given, default=-1)
        given += ids
    assert len(set(given)) == len(given)
    for key in given:
        assert await store.get(key) == b"record %d" % key


async def test_many_tasks_at_once(store: MetadataStore) -> None:
    async def one(number: int) -> int:
        (key,) = await store.reserve([b"note %d" % number])
        await store.commit([(key, b"record %d" % number)])
        assert await store.get(key) == b"record %d" % number
        return key

    ids = await asyncio.gather(*(one(number) for number in range(200)))
    assert len(set(ids)) == 200


async def test_scan_in_order_from_anywhere(store: MetadataStore) -> None:
    ids = await store.reserve([b"%d" % number for number in range(2500)])
    await store.commit([(key, b"record %d" % key) for key in ids[::2]])
    rows = await everything(store)
    expected = sorted(
        (key, b"%d" % number if number % 2 else b"record %d" % key)
        for number, key in enumerate(ids)
    )
    ids.sort()
    assert rows == expected
    for at in (1, 7, 1023, 1024, 1025, 2499):
        assert await everything(store, ids[at]) == expected[at:]
    assert await everything(store, ids[-1] + 1) == []
    assert await everything(store, 2**31) == []


async def test_deleted_records_are_gone_and_their_ids_are_not_given_again(
    store: MetadataStore
) -> None:
    ids = await store.reserve([b"%d" % number for number in range(5)])
    await store.delete([])
    await store.delete([ids[1], ids[3], 77_777])
    await store.delete([ids[3]])
    assert [await store.get(key) for key in ids] == [b"0", None, b"2", None, b"4"]
    assert [key for key, _ in await everything(store)] == sorted([ids[0], ids[2], ids[4]])
    with pytest.raises(LogCorrupt, match=str(ids[1])):
        await store.commit([(ids[1], b"record")])
    assert min(await store.reserve([b"next"])) > max(ids)


async def test_large_records(store: MetadataStore) -> None:
    ids = sorted(await store.reserve([b"x" * 2**20] * 3 + [b"z" * 2**23]))
    await store.commit([(key, b"y" * (2**20 + key)) for key in ids[:3]])
    sizes = [(key, len(value)) for key, value in await everything(store)]
    assert sizes[:3] == [(key, 2**20 + key) for key in ids[:3]]
    assert sizes[3][1] in (2**20, 2**23)


async def test_an_id_that_was_never_reserved(store: MetadataStore) -> None:
    with pytest.raises(LogCorrupt, match="77"):
        await store.commit([(77, b"record")])
    assert await store.get(77) is None


@pytest.mark.parametrize("key", [-1, 2**32, 2**63])
async def test_ids_beyond_32_bits(store: MetadataStore, key: int) -> None:
    if isinstance(store, MemoryMetadata):
        pytest.skip("a dict has no width")
    with pytest.raises(SetupError, match="8 hex digits"):
        await store.get(key)
    with pytest.raises(SetupError, match="8 hex digits"):
        await store.commit([(key, b"record")])


async def test_what_changed_is_told_by_who_can(store: MetadataStore) -> None:
    mark, changed = await store.changes(b"")
    assert changed is None, "nothing was heard before"
    ids = await store.reserve([b"note %d" % n for n in range(3)])
    await store.commit([(ids[1], b"record")])
    await store.replace([(ids[2], b"note 2", b"other")])
    later, changed = await store.changes(mark)
    if changed is None:
        return
    assert set(changed) == {ids[1], ids[2]}
    assert set((await store.changes(later))[1] or ()) == set()
    await store.delete([ids[0]])
    last, changed = await store.changes(later)
    assert set(changed or ()) == {ids[0]}
    for strange in (b"x", bytes(16), last[:8] + bytes([255] * 8), last[:15]):
        assert (await store.changes(strange))[1] is None
