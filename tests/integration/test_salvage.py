"""Records made again from shards alone, as the real writer leaves them, damaged in many ways."""

from __future__ import annotations

import asyncio
import io
import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fakes.grid import Grid
from zerostor.core.checksum import cell_checksum
from zerostor.core.limits import METADATA_ID_MAX
from zerostor.core.link import parse_link
from zerostor.core.record import ObjectRecord, PackRecord, Record, decode_record
from zerostor.core.shard import (
    Member,
    Trailer,
    decode_trailer,
    encode_members,
    encode_trailer,
    trailer_size_before,
)
from zerostor.engine import salvage as salvage_module
from zerostor.engine.claims import ID_GAP_MAX, Settled
from zerostor.engine.known import Known
from zerostor.engine.salvage import Salvage
from zerostor.metadata.memory import MemoryMetadata
from zerostor.ports import ShardEnd
from zerostor.stores.memory import MemoryStore

CELL = 4096


def body_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed * 1_000_003 + size).randbytes(size)


async def pack(grid: Grid, bodies: list[bytes]) -> list[str]:
    """Store several small objects as one pack; their links."""
    entries = [await grid.entry(await grid.accept(body)) for body in bodies]
    links = await grid.ingest.store_pack(entries)
    assert all(isinstance(link, str) for link in links), links
    await grid.spool.finish([(entry, str(link)) for entry, link in zip(entries, links,
                                                                      strict=True)])
    return [str(link) for link in links]


async def salvage(grid: Grid, **options: object) -> tuple[Salvage, Settled]:
    found = Salvage(grid.pool, grid.reader, io.BytesIO(), **options)  # type: ignore[arg-type]
    await found.run()
    return found, found.claims.settle(lambda _: False, 0, lambda _: None)


class Remade(MemoryMetadata):
    """Metadata of what was found."""

    def __init__(self, settled: Settled) -> None:
        super().__init__()
        self._values = dict(settled.records())


async def records_of(grid: Grid) -> dict[int, Record]:
    """What the metadata really holds, without notes."""
    found = {number: decode_record(stored) async for number, stored in grid.metadata.scan()}
    return {number: record for number, record in found.items()
            if isinstance(record, ObjectRecord | PackRecord)}


def remade_of(settled: Settled) -> dict[int, Record]:
    return {number: decode_record(stored) for number, stored in settled.records()}


def timeless(records: dict[int, Record]) -> dict[int, object]:
    """Without the time of a pack, which its shards do not keep."""
    return {number: (record.stripes, record.objects, record.members)
            if isinstance(record, PackRecord) else record
            for number, record in records.items()}


async def filled(grid: Grid) -> dict[str, bytes]:
    """Objects of many sizes, alone and in packs, in two volumes."""
    bodies: dict[str, bytes] = {}
    for size in (0, 1, 63, 5000, CELL * 16, CELL * 16 * 2 + 777):
        bodies[await grid.store(body_of(size))] = body_of(size)
    for volume in range(2):
        for count in (1, 7, 3):
            some = [body_of(100 + 37 * number, number + 10 * count + 100 * volume)
                    for number in range(count)]
            bodies.update(zip(await pack(grid, some), some, strict=True))
        await grid.writer.close()
    return bodies


async def check_readable(grid: Grid, settled: Settled, bodies: dict[str, bytes]) -> None:
    grid.use(Remade(settled))
    for link, body in bodies.items():
        assert await grid.read(link) == body


async def test_the_same_records_come_back(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    bodies = await filled(grid)
    before = await records_of(grid)
    found, settled = await salvage(grid)
    assert timeless(remade_of(settled)) == timeless(before)
    findings = found.findings
    assert (findings.shards, findings.keys) == (8 * 20, 8)
    assert not (findings.damaged.count or findings.strangers.count or findings.unread.count
                or findings.odd.count or findings.incomplete or findings.unlisted)
    assert list(settled.lost()) == []
    await check_readable(grid, settled, bodies)


async def test_any_four_stores_gone(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    bodies = await filled(grid)
    for name in grid.rng.sample(sorted(grid.memory), 4):
        grid.memory[name].shards.clear()
    found, settled = await salvage(grid)
    assert found.findings.incomplete == []
    await check_readable(grid, settled, bodies)


async def test_what_five_lost_stores_cost_is_named(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    large = await grid.store(body_of(CELL * 16 + 5))
    small, = await pack(grid, [b"small"])
    for name in sorted(grid.memory)[:5]:
        grid.memory[name].shards.clear()
    found, settled = await salvage(grid)
    assert len(settled) == 0
    assert {(row.link, row.good, row.needed) for row in found.findings.incomplete} == {
        (large, 15, 16), ("", 15, 16)}
    assert small


@pytest.mark.parametrize("damage", ["cut", "empty", "flip a trailer", "foreign", "append"])
async def test_four_damaged_shards_of_each_are_counted_and_not_used(
    tmp_path: Path, damage: str
) -> None:
    grid = Grid(tmp_path)
    bodies = await filled(grid)
    for name in sorted(grid.memory)[3:7]:
        shards = grid.memory[name].shards
        for key, good in list(shards.items()):
            flipped = bytearray(good)
            flipped[-40] ^= 4
            shards[key] = {
                "cut": good[: len(good) // 2], "empty": b"", "flip a trailer": bytes(flipped),
                "foreign": body_of(len(good)), "append": good + body_of(3000),
            }[damage]
    found, settled = await salvage(grid)
    assert found.findings.damaged.count == 4 * 8
    assert found.findings.incomplete == []
    await check_readable(grid, settled, bodies)


async def test_torn_appends_hide_nothing(tmp_path: Path) -> None:
    """A worker that dies in the middle of a pack leaves a part of it on every store."""
    grid = Grid(tmp_path)
    first = await pack(grid, [body_of(500, 1), body_of(900, 2)])
    second = await pack(grid, [body_of(700, 3)])
    await pack(grid, [body_of(7000, 4)])
    stripes = (await grid.locate(second[0])).stripes
    for store in grid.memory.values():
        for key, good in list(store.shards.items()):
            end = stripes.base + stripes.layout.shard_size
            end += good[end:].index(b"ZSH1") + 4
            store.shards[key] = good[: grid.rng.randrange(end + 1, len(good))]
    bodies = {first[0]: body_of(500, 1), first[1]: body_of(900, 2), second[0]: body_of(700, 3)}
    found, settled = await salvage(grid)
    assert found.findings.damaged.count == 20
    assert len(settled) == len(bodies) + 2
    await check_readable(grid, settled, bodies)


async def test_content_that_imitates_trailers(tmp_path: Path) -> None:
    """What clients upload lies in the cells; none of it is taken for the end of a unit."""
    grid = Grid(tmp_path)
    link = await grid.store(body_of(6000))
    key, shard = next(iter(grid.memory["00"].shards.items()))
    real = shard[-trailer_size_before(shard[-20:]):]
    hostile = [real * 10, b"ZSH1" * 500, b"zsh1" + (64).to_bytes(4, "little") + b"ZSH1" * 30]
    links = await pack(grid, hostile)
    for store in grid.memory.values():
        for name, good in list(store.shards.items()):
            store.shards[name] = good if name[:32] == key[:32] else good + good[:777]
    found, settled = await salvage(grid)
    assert found.findings.incomplete == []
    assert len(settled) == 1 + 3 + 1
    await check_readable(grid, settled, {link: body_of(6000),
                                         **dict(zip(links, hostile, strict=True))})


async def test_of_two_attempts_the_complete_one_wins(tmp_path: Path) -> None:
    """A worker died when most shards of its first attempt were on their stores."""
    grid = Grid(tmp_path)
    body = body_of(CELL * 16 + 9)
    link = await grid.store(body)
    first = {name: dict(store.shards) for name, store in grid.memory.items()}
    number = parse_link(link)[0].metadata_id
    for store in grid.memory.values():
        store.shards.clear()
    grid.use(MemoryMetadata())
    assert await grid.store(body) == link
    for name in sorted(first)[:17]:
        grid.memory[name].shards.update(first[name])
    found, settled = await salvage(grid)
    record = remade_of(settled)[number]
    assert isinstance(record, ObjectRecord) and record.stripes is not None
    assert all(record.stripes.stores)
    assert list(settled.lost()) == []
    for name in sorted(first)[:5]:  # now the second is the one that cannot be had
        grid.memory[name].shards = dict(first[name])
    found, settled = await salvage(grid)
    assert [row.link for row in found.findings.incomplete] == [link]
    await check_readable(grid, settled, {link: body})


async def test_ids_given_twice_go_to_one_and_the_other_is_named(tmp_path: Path) -> None:
    """Metadata was begun anew over the stores of an older one: packs and objects collide."""
    grid = Grid(tmp_path)
    old = await pack(grid, [body_of(300, 1), body_of(300, 2), body_of(300, 3)])
    await grid.writer.close()
    grid.use(MemoryMetadata())
    new = await pack(grid, [body_of(400, 4), body_of(400, 5), body_of(400, 6)])
    await grid.writer.close()
    for name in sorted(grid.memory)[:2]:  # so the new one is the better claim
        for key in [key for key in grid.memory[name].shards
                    if key[:32] == (await _older_key(grid, new)).hex()]:
            del grid.memory[name].shards[key]
    _, settled = await salvage(grid)
    assert sorted(lost.link for lost in settled.lost()) == sorted(old)
    await check_readable(grid, settled, dict(zip(new, [body_of(400, n) for n in (4, 5, 6)],
                                                 strict=True)))


async def test_an_object_whose_pack_lost_its_id_is_not_mixed_with_another(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    await grid.metadata.reserve([b"", b"", b"", b"", b""])
    old, = await pack(grid, [body_of(300, 1)])
    await grid.writer.close()
    assert parse_link(old)[0].metadata_id == 5
    for name in sorted(grid.memory)[:2]:
        grid.memory[name].shards.clear()  # so the newer ones are the better claims
    grid.use(MemoryMetadata())
    bodies = {}
    for number in range(4):
        bodies[await grid.store(body_of(5000, number))] = body_of(5000, number)
    assert {parse_link(link)[0].metadata_id for link in bodies} == {0, 2, 4, 6}
    _, settled = await salvage(grid)
    assert set(remade_of(settled)) == {0, 2, 4, 6}
    assert [lost.link for lost in settled.lost()] == [old]
    await check_readable(grid, settled, bodies)


async def _older_key(grid: Grid, new: list[str]) -> bytes:
    key = (await grid.locate(new[0])).stripes.key
    return bytes.fromhex(next(name for name in grid.memory["19"].shards
                              if name[:32] != key.hex())[:32])


def forged(trailer: Trailer, index: int, **changes: object) -> bytes:
    """A trailer that somebody who can write to a store made up; its checksum is right."""
    fields = {name: getattr(trailer, name) for name in trailer.__struct_fields__}
    return encode_trailer(Trailer(**{**fields, **changes}), index)


async def test_four_hostile_stores_change_nothing(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    bodies = await filled(grid)
    before = timeless(await records_of(grid))
    evil = Member(0, bytes(24), 0, 0, "exe", "", "default", 1)
    for name in sorted(grid.memory)[:4]:
        shards = grid.memory[name].shards
        for key, good in list(shards.items()):
            length = trailer_size_before(good[-20:])
            trailer, index = decode_trailer(good[-length:])
            if trailer.object is not None:
                lie = Member(trailer.object.metadata_id, b"\1" * 24, 0, trailer.size, "exe", "",
                             "default", 1)
                shards[key] = good[:-length] + forged(trailer, index, object=lie)
            else:
                shards[key] = good[:-length] + forged(trailer, index, pack=3)
        shards["ab" * 16 + "-00"] = encode_trailer(
            Trailer(b"\xab" * 16, 0, 1, 0, 0, CELL, b"", evil), 0)
        for huge in (METADATA_ID_MAX, 1 << 25):
            key16 = os.urandom(16)
            member = Member(huge, bytes(24), 0, 0, "", "", "", 1)
            shards[f"{key16.hex()}-00"] = encode_trailer(
                Trailer(key16, 0, 1, 0, 0, CELL, b"", member), 0)
        shards["not-ours"] = b"x"
        shards["cd" * 16 + "-000"] = b"x"
        shards["cd" * 16 + "-999"] = b"x"
    found, settled = await salvage(grid)
    assert timeless(remade_of(settled)).keys() == before.keys()
    assert settled.unbelievable == 8
    assert found.findings.strangers.count == 12
    assert found.findings.odd.count == 8
    await check_readable(grid, settled, bodies)


async def test_one_store_cannot_use_up_the_ids_step_by_step(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    await filled(grid)
    highest = max(await records_of(grid))
    for step in range(1, 256):
        key, number = os.urandom(16), highest + step * (ID_GAP_MAX - 1)
        member = Member(number, bytes(24), 0, 0, "", "", "", 1)
        grid.memory["07"].shards[f"{key.hex()}-00"] = encode_trailer(
            Trailer(key, 0, 1, 0, 0, CELL, b"", member), 0)
    _, settled = await salvage(grid)
    assert settled.unbelievable == 254
    assert max(settled.ids()) <= highest + ID_GAP_MAX


@pytest.mark.parametrize("lie", [False, True])
async def test_a_store_has_one_voice_whatever_it_makes_up(tmp_path: Path, lie: bool) -> None:
    """Four stores hold forged copies of all shards of every set, and whole sets of their own."""
    grid = Grid(tmp_path)
    bodies = await filled(grid)
    before = timeless(await records_of(grid))
    theirs = sorted(grid.memory)[:4]
    for name in theirs:
        shards = grid.memory[name].shards
        for key, good in list(shards.items()):
            length = trailer_size_before(good[-20:])
            trailer, index = decode_trailer(good[-length:])
            for number in range(20):
                if number != index:
                    shards[f"{key[:32]}-{number:02d}"] = good[:-length] + forged(
                        trailer, number, **({"cell_size": CELL + 64} if lie else {}))
            member = trailer.object
            if member is not None:
                fields = {field: getattr(member, field) for field in member.__struct_fields__}
                for number in range(256):
                    fake = Trailer(b"\xee" * 16, 0, 1, 255, member.size, CELL, bytes(
                        16 * -(-member.size // CELL)), Member(**{**fields, "ext": "exe"}))
                    shards[f"{'ee' * 16}-{number:02d}"] = encode_trailer(fake, number)
    _, settled = await salvage(grid)
    remade = timeless(remade_of(settled))
    assert remade.keys() == before.keys()
    for number, record in remade.items():
        stripes = record.stripes if isinstance(record, ObjectRecord) else record[0]  # type: ignore[index]
        if stripes is not None:
            assert sum(store not in theirs for store in stripes.stores) >= 16, number
    await check_readable(grid, settled, bodies)


def patient(grid: Grid) -> None:
    """No read is taken for slow: on a busy machine that would go around the very cell that lies."""
    for store in grid.guarded.values():
        store.hedge_after = lambda _: 60.0  # type: ignore[method-assign]


async def test_a_store_that_lies_about_its_cells_and_their_checksums(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    bodies = await filled(grid)
    before = timeless(await records_of(grid)).keys()
    patient(grid)
    small = next(link for link, body in bodies.items() if len(body) == 100)
    shards = grid.memory[(await grid.locate(small)).stripes.stores[0]].shards
    for key, good in list(shards.items()):
        shards[key] = lying(good)
    found, settled = await salvage(grid)
    assert remade_of(settled).keys() == before
    assert found.findings.incomplete == [] and found.findings.odd.count > 0
    grid.use(Remade(settled))
    located = [await grid.locate(link) for link in bodies]
    assert len(located) == len(bodies)


async def test_a_store_that_makes_up_a_member_table_is_found_out_when_asked_to(
    tmp_path: Path
) -> None:
    """It takes over the id of another object; only what the other cells say shows that it lies."""
    grid = Grid(tmp_path)
    patient(grid)
    victim, = await pack(grid, [body_of(300, 1)])
    await grid.writer.close()
    link, = await pack(grid, [body_of(400, 2)])
    stripes = (await grid.locate(link)).stripes
    shards = grid.memory[stripes.stores[0]].shards
    key = f"{stripes.key.hex()}-00"
    trailer, index = decode_trailer(shards[key][-trailer_size_before(shards[key][-20:]):])
    stolen = parse_link(victim)[0].metadata_id
    evil = Member(stolen, b"\1" * 24, 0, 400, "exe", "", "default", 2**41)
    cell = bytearray(shards[key][: trailer.layout.shard_size])
    cell[trailer.members : trailer.size] = _padded(evil, trailer.size - trailer.members)
    shards[key] = bytes(cell) + forged(trailer, index, checksums=cell_checksum(bytes(cell)))
    _, settled = await salvage(grid)
    believed = remade_of(settled)[stolen]
    assert isinstance(believed, ObjectRecord) and believed.ext == "exe"
    found, settled = await salvage(grid, verify=True)
    assert found.findings.odd.count == 1
    await check_readable(grid, settled, {victim: body_of(300, 1), link: body_of(400, 2)})


def _padded(member: Member, size: int) -> bytes:
    """A table of exactly `size` bytes with this member: its job is as long as that takes."""
    fields = {name: getattr(member, name) for name in member.__struct_fields__}
    tables = (encode_members([Member(**{**fields, "job": "x" * length})]) for length in range(64))
    return next(table for table in tables if len(table) == size)


def lying(shard: bytes) -> bytes:
    """Each cell of a shard replaced, with checksums to fit."""
    position, units = len(shard), []
    while position:
        length = trailer_size_before(shard[position - 20 : position])
        trailer, index = decode_trailer(shard[position - length : position])
        cells, checksums = b"", b""
        for stripe in trailer.layout.stripes():
            cell = random.Random(position + stripe.number).randbytes(stripe.cell)
            cells, checksums = cells + cell, checksums + cell_checksum(cell)
        units.append(cells + forged(trailer, index, checksums=checksums))
        position = trailer.base
    return b"".join(reversed(units))


@pytest.mark.parametrize("table", [b"", b"\xc1", b"\x91\x01", bytes(2000)])
async def test_a_member_table_that_makes_no_sense(tmp_path: Path, table: bytes) -> None:
    grid = Grid(tmp_path)
    await pack(grid, [body_of(600)])
    for store in grid.memory.values():
        for key, good in list(store.shards.items()):
            length = trailer_size_before(good[-20:])
            trailer, index = decode_trailer(good[-length:])
            start = max(0, trailer.size - len(table))
            store.shards[key] = good[:-length] + forged(trailer, index, members=start)
    found, settled = await salvage(grid)
    assert len(settled) == 0
    assert [row.metadata_id for row in found.findings.incomplete] == [1]


async def test_members_that_reach_out_of_their_pack(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    grid.ingest.pack_limit(grid.policy)
    job = await grid.accept(b"x" * 50)
    entry = await grid.entry(job)
    for offset, size, ext, number in ((0, 51, "bin", 5), (-1, 50, "bin", 5), (0, 50, "../x", 5),
                                      (0, 50, "bin", 2**32), (0, 50, "bin", 77)):
        member = Member(number, bytes(24), offset, size, ext, job, "default", 0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("zerostor.engine.write._fill_pack", _filled_with(member))
            await grid.writer.write_pack([(entry, member)], grid.policy, 77)
        await grid.writer.close()
    found, settled = await salvage(grid)
    assert len(settled) == 0
    assert len(found.findings.incomplete) == 5


def _filled_with(member: Member):  # type: ignore[no-untyped-def]
    from zerostor.core.layout import Layout
    from zerostor.core.shard import encode_members
    from zerostor.engine.write import _encode

    def fill(buffer, _, policy):  # type: ignore[no-untyped-def]
        table = encode_members([member])
        buffer[:50] = b"x" * 50
        buffer[50 : 50 + len(table)] = table
        stripe = Layout(50 + len(table), 16, 4, CELL).stripe(0)
        return stripe, _encode(policy, buffer, stripe), 50, [member]

    return fill


async def test_what_records_name_already_is_not_read_again(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    large = await grid.store(body_of(9000))
    first = await pack(grid, [body_of(500, 1)])
    stripes = (await grid.locate(first[0])).stripes
    shard = grid.memory["00"].shards[f"{stripes.key.hex()}-{stripes.stores.index('00'):02d}"]
    known = Known()
    known.add_object((await grid.locate(large)).stripes.key, 16)
    known.add_pack(stripes.key, 16)
    known.add_whole_pack(stripes.key, 0, len(shard))
    second = await pack(grid, [body_of(600, 2), body_of(700, 3)])
    third = await grid.store(body_of(5000))
    found, settled = await salvage(grid, known=known)
    ids = {parse_link(link)[0].metadata_id for link in (*second, third)}
    assert {number for number, record in remade_of(settled).items()
            if isinstance(record, ObjectRecord)} == ids
    assert found.findings.damaged.count == 0


class Counted(MemoryStore):
    """Looks at how many shards end in one go, as folders do. looking: stores that are at it."""

    def __init__(self, store: MemoryStore, looking: list[str],
                 together: asyncio.Barrier | None) -> None:
        super().__init__(store.name)
        self.shards = store.shards
        self.looking = looking
        self.alone = True
        self._together = together

    async def ends(self, keys: Sequence[str], length: int) -> list[ShardEnd]:
        self.looking.append(self.name)
        before = self.looking.copy()
        await (asyncio.sleep(0) if self._together is None else self._together.wait())
        self.alone = before == self.looking == [self.name]
        self.looking.remove(self.name)
        return [ShardEnd(len(self.shards[key]), self.shards[key][-length:]) for key in keys]


@pytest.mark.parametrize("quick", [False, True])
async def test_stores_that_are_slow_are_read_at_once_and_quick_ones_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    together, looking = None if quick else asyncio.Barrier(20), list[str]()
    grid = Grid(tmp_path, wrap=lambda store: Counted(store, looking, together))
    await grid.store(body_of(9000))
    if quick:
        monkeypatch.setattr(salvage_module, "TURN", 10.0)
    found, settled = await salvage(grid)
    assert timeless(remade_of(settled)) == timeless(await records_of(grid))
    assert not found.findings.unread.count
    stores = [store for store in grid.wrapped.values() if isinstance(store, Counted)]
    assert [store.alone for store in stores] == [quick] * 20


@pytest.mark.parametrize("seed", range(6))
async def test_random_histories_with_random_damage(tmp_path: Path, seed: int) -> None:
    """Each shard of up to four stores may be cut, flipped or gone: all is found again."""
    grid = Grid(tmp_path, seed=seed)
    bodies: dict[str, bytes] = {}
    for step in range(12):
        if grid.rng.random() < 0.3:
            body = body_of(grid.rng.randrange(CELL * 40), step)
            bodies[await grid.store(body)] = body
        else:
            some = [body_of(grid.rng.randrange(900), step * 100 + n)
                    for n in range(grid.rng.randrange(1, 9))]
            bodies.update(zip(await pack(grid, some), some, strict=True))
        if grid.rng.random() < 0.2:
            await grid.writer.close()
    for name in grid.rng.sample(sorted(grid.memory), 4):
        shards = grid.memory[name].shards
        for key in list(shards):
            damaged = bytearray(shards[key])
            for _ in range(grid.rng.randrange(1, 20)):
                damaged[grid.rng.randrange(len(damaged))] ^= 1 << grid.rng.randrange(8)
            del damaged[len(damaged) - grid.rng.choice([0, 0, 1, 50, 4000]):]
            shards[key] = bytes(damaged)
    found, settled = await salvage(grid)
    assert found.findings.incomplete == []
    await check_readable(grid, settled, bodies)
