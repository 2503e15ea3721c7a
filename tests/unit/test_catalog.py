"""The catalog tells a wrong hash from a wrong id by nothing: not by work, not by time."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec
import pytest

from tests.fakes.virtual_time import run_virtually
from tests.unit.test_record import DEAD, OBJECT, PACK, PACKED, RECLAIMED, REMOVED, SALT
from zerostor.core.errors import MetadataUnavailable, ObjectRemoved, RecordCorrupt, UnknownObject
from zerostor.core.link import Hash
from zerostor.core.record import NoteRecord, Record, encode_record
from zerostor.engine.catalog import (
    AWAY_SECONDS,
    FRESH_SECONDS,
    LOOK_SECONDS,
    MISS_SECONDS,
    Catalog,
)
from zerostor.metadata.memory import MemoryMetadata

WRONG = bytes(range(24))
RECORDS: dict[str, Record] = {
    "note": NoteRecord("ab" * 16), "object": OBJECT, "pack": PACK, "packed": PACKED,
    "private": msgspec.structs.replace(OBJECT, salt=SALT), "deleted": OBJECT,
    "removed": REMOVED, "reclaimed": RECLAIMED, "dead pack": DEAD,
}
KINDS = [*RECORDS, "unknown"]


class CountingMetadata(MemoryMetadata):
    """Counts looks; one that finds something takes `pause` seconds."""

    def __init__(self, pause: float) -> None:
        super().__init__()
        self.pause = pause
        self.looks = 0

    async def get(self, metadata_id: int) -> bytes | None:
        self.looks += 1
        found = await super().get(metadata_id)
        await asyncio.sleep(self.pause if found is not None else 0.0)
        return found


class Miss(NamedTuple):
    """What somebody sees who asked in vain. seconds: until the answer; looks: it cost."""

    seconds: float
    looks: int
    text: str


async def miss(catalog: Catalog, metadata: CountingMetadata, wanted: Hash) -> Miss:
    began, looks = asyncio.get_running_loop().time(), metadata.looks
    with pytest.raises(UnknownObject) as raised:
        await catalog.find(wanted)
    spent = asyncio.get_running_loop().time() - began
    return Miss(round(spent, 6), metadata.looks - looks, str(raised.value))


async def misses(pause: float, content: bytes) -> list[Miss]:
    """Of every kind of id with a hash that is not its own: at first, and when it is remembered."""
    metadata = CountingMetadata(pause)
    catalog = Catalog(metadata)
    ids = dict(zip(KINDS, await metadata.reserve([b"note"] * len(KINDS)), strict=True))
    await metadata.commit([(ids[kind], encode_record(record)) for kind, record in RECORDS.items()])
    await metadata.delete([ids["deleted"], ids["unknown"]])
    seen = []
    for kind in KINDS:
        for _ in range(3):
            await asyncio.sleep(0.0137)
            seen.append(await miss(catalog, metadata, Hash(content, ids[kind])))
    seen.append(await miss(catalog, metadata, Hash(content, 2**32 - 1)))
    # Somebody who knows the right one made it remembered.
    found = await catalog.find(Hash(OBJECT.content, ids["object"]))
    assert found.record == OBJECT
    seen.append(await miss(catalog, metadata, Hash(content, ids["object"])))
    return seen


@pytest.mark.parametrize("pause", [0.0, 0.001, 0.0203, 0.049])
@pytest.mark.parametrize("content", [WRONG, bytes(24), OBJECT.content[:-1] + b"\0"])
def test_every_miss_is_one_look_and_one_beat(pause: float, content: bytes) -> None:
    seen = run_virtually(misses(pause, content))
    assert set(seen) == {Miss(MISS_SECONDS, 1, "no object has this hash")}


def test_what_takes_longer_than_a_beat_is_told_at_the_next() -> None:
    async def late() -> None:
        metadata = CountingMetadata(MISS_SECONDS * 1.4)
        number, = await metadata.reserve([encode_record(OBJECT)])
        seen = await miss(Catalog(metadata), metadata, Hash(WRONG, number))
        assert seen.seconds == round(2 * MISS_SECONDS, 6)

    run_virtually(late())


def test_what_is_there_is_not_kept_back() -> None:
    async def there() -> None:
        metadata = CountingMetadata(0.0)
        catalog = Catalog(metadata)
        number, = await metadata.reserve([encode_record(OBJECT)])
        for _ in range(2):
            assert (await catalog.find(Hash(OBJECT.content, number))).record == OBJECT
        assert asyncio.get_running_loop().time() == 0.0

    run_virtually(there())


def test_who_hangs_up_leaves_nothing_behind() -> None:
    async def hangs_up() -> None:
        loop = asyncio.get_running_loop()
        troubles: list[object] = []
        loop.set_exception_handler(lambda _, context: troubles.append(context))
        asking = asyncio.ensure_future(Catalog(MemoryMetadata()).find(Hash(WRONG, 7)))
        await asyncio.sleep(MISS_SECONDS / 2)
        asking.cancel()
        await asyncio.sleep(MISS_SECONDS)
        assert asking.cancelled() and troubles == []

    run_virtually(hangs_up())


def test_a_removed_object_is_told_to_who_has_its_hash_at_once() -> None:
    async def removed() -> None:
        metadata = CountingMetadata(0.0)
        catalog = Catalog(metadata)
        for record in (REMOVED, RECLAIMED):
            number, = await metadata.reserve([encode_record(record)])
            with pytest.raises(ObjectRemoved):
                await catalog.find(Hash(record.content, number))
            assert asyncio.get_running_loop().time() == 0.0

    run_virtually(removed())


class MovingMetadata(MemoryMetadata):
    """Between one look and the next the object is written again in another pack."""

    def __init__(self) -> None:
        super().__init__()
        self.moves: list[tuple[int, bytes]] = []

    async def get(self, metadata_id: int) -> bytes | None:
        found = await super().get(metadata_id)
        if self.moves:
            await self.commit([self.moves.pop(0)])
        return found


def test_an_object_that_moves_to_another_pack_is_found_there() -> None:
    async def moves() -> None:
        metadata = MovingMetadata()
        catalog = Catalog(metadata)
        number, first, second = await metadata.reserve([b"a", b"b", b"c"])
        there = msgspec.structs.replace(PACK, created_ms=1)
        moved = msgspec.structs.replace(PACKED, pack=second, offset=5)
        await metadata.commit([
            (number, encode_record(msgspec.structs.replace(PACKED, pack=first))),
            (first, encode_record(DEAD)), (second, encode_record(there))])
        wanted = Hash(PACKED.content, number)
        with pytest.raises(RecordCorrupt):
            await catalog.find(wanted)
        catalog.forget(number)
        metadata.moves.append((number, encode_record(moved)))
        found = await catalog.find(wanted)
        assert (found.record, found.stripes, found.offset) == (moved, there.stripes, 5)

    run_virtually(moves())


def test_what_changed_elsewhere_is_seen_soon_and_hot_records_cost_few_looks() -> None:
    async def changes() -> None:
        metadata = CountingMetadata(0.0)
        catalog = Catalog(metadata)
        number, pack = await metadata.reserve([b"a", b"b"])
        packed = msgspec.structs.replace(PACKED, pack=pack)
        moved = msgspec.structs.replace(
            PACK, stripes=msgspec.structs.replace(PACK.stripes, stores=("other",) * 20))
        await metadata.commit([(number, encode_record(packed)), (pack, encode_record(PACK))])
        wanted = Hash(packed.content, number)
        for _ in range(1000):
            assert (await catalog.find(wanted)).stripes == PACK.stripes
            await asyncio.sleep(0.002)
        assert metadata.looks <= 2 * (2.0 / FRESH_SECONDS + 1)
        await metadata.commit([(pack, encode_record(moved))])
        await asyncio.sleep(FRESH_SECONDS)
        assert (await catalog.find(wanted)).stripes == moved.stripes
        gone = msgspec.structs.replace(REMOVED, content=packed.content)
        await metadata.commit([(number, encode_record(gone))])
        await asyncio.sleep(FRESH_SECONDS)
        with pytest.raises(ObjectRemoved):
            await catalog.find(wanted)

    run_virtually(changes())


@pytest.mark.parametrize("hangs", [False, True])
def test_what_is_remembered_is_read_while_the_metadata_is_away(hangs: bool) -> None:
    class AwayMetadata(CountingMetadata):
        away = False

        async def get(self, metadata_id: int) -> bytes | None:
            if self.away:
                self.looks += 1
                await asyncio.sleep(3600.0 if hangs else 0.0)
                raise MetadataUnavailable("away")
            return await super().get(metadata_id)

    async def away() -> None:
        metadata = AwayMetadata(0.0)
        catalog = Catalog(metadata)
        number, = await metadata.reserve([encode_record(OBJECT)])
        wanted = Hash(OBJECT.content, number)
        await catalog.find(wanted)
        metadata.away, metadata.looks = True, 0
        began = asyncio.get_running_loop().time()
        for _ in range(1000):
            assert (await catalog.find(wanted)).record == OBJECT
            await asyncio.sleep(0.01)
        assert metadata.looks <= 10
        # At most one in a second waits, and not for long.
        assert asyncio.get_running_loop().time() - began <= 10 * (1 + LOOK_SECONDS) + 0.1
        with pytest.raises((MetadataUnavailable, TimeoutError)):
            async with asyncio.timeout(10):
                await catalog.find(Hash(WRONG, number))
        metadata.away = False
        await metadata.commit([(number, encode_record(REMOVED))])
        await asyncio.sleep(AWAY_SECONDS)
        with pytest.raises(ObjectRemoved):
            await catalog.find(Hash(REMOVED.content, number))

    run_virtually(away())


def test_who_hangs_up_in_a_look_leaves_it_to_the_next() -> None:
    async def hangs_up() -> None:
        metadata = CountingMetadata(0.1)
        catalog = Catalog(metadata)
        number, = await metadata.reserve([encode_record(OBJECT)])
        await catalog.find(Hash(OBJECT.content, number))
        await metadata.commit([(number, encode_record(REMOVED))])
        await asyncio.sleep(FRESH_SECONDS)
        asking = asyncio.ensure_future(catalog.find(Hash(OBJECT.content, number)))
        await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.sleep(0)
        with pytest.raises(ObjectRemoved):
            await catalog.find(Hash(REMOVED.content, number))

    run_virtually(hangs_up())


def test_who_is_told_what_changed_looks_at_nothing_else() -> None:
    class TellingMetadata(CountingMetadata):
        def __init__(self) -> None:
            super().__init__(0.0)
            self.changed: list[int] = []
            self.asked = 0

        async def changes(self, since: bytes) -> tuple[bytes, list[int] | None]:
            self.asked += 1
            return b"%d" % len(self.changed), self.changed[int(since):] if since else None

    async def told() -> None:
        metadata = TellingMetadata()
        catalog = Catalog(metadata)
        ids = await metadata.reserve([encode_record(OBJECT)] * 50)
        for _ in range(2):
            for number in ids:
                await catalog.find(Hash(OBJECT.content, number))
        metadata.looks = metadata.asked = 0
        for _ in range(100):
            for number in ids:
                await catalog.find(Hash(OBJECT.content, number))
            await asyncio.sleep(0.05)
        assert metadata.looks == 0
        assert metadata.asked <= 5 / FRESH_SECONDS + 1
        await metadata.commit([(ids[7], encode_record(REMOVED))])
        metadata.changed.append(ids[7])
        await asyncio.sleep(FRESH_SECONDS)
        for number in ids:
            if number == ids[7]:
                with pytest.raises(ObjectRemoved):
                    await catalog.find(Hash(OBJECT.content, number))
            else:
                await catalog.find(Hash(OBJECT.content, number))
        assert metadata.looks == 1

    run_virtually(told())
