"""The log comes back from its parts in the pool, and what is younger from the shards."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.grid import Grid
from tests.fakes.log_folder import SEGMENT, Archive
from zerostor import config, wiring
from zerostor.core.container_index import INDEX_KEYS, Container, ContainerIndex, decode_copy
from zerostor.core.errors import MetadataUnavailable, SetupError
from zerostor.core.link import parse_link
from zerostor.core.log_format import ENTRY
from zerostor.core.record import (
    NoteRecord,
    ObjectRecord,
    PackRecord,
    StripeSet,
    decode_record,
    encode_record,
)
from zerostor.core.settings import StoreSettings
from zerostor.engine.archivist import Archivist, Superseded
from zerostor.engine.containers import sign
from zerostor.engine.log_parts import entries as log_entries
from zerostor.engine.log_parts import is_ours
from zerostor.engine.recover import Recovery
from zerostor.engine.recovered import Summary
from zerostor.identity import Identity, load_identity
from zerostor.metadata.zdb import ZdbMetadata
from zerostor.resp_client import Address
from zerostor.stores.directory import DirectoryStore
from zerostor.stores.folder_marker import initialise
from zerostor.zdb.server import ServerSettings, ZdbServer


class Site:
    """Twenty stores in folders, a log that is kept in them, and what was stored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stores = {f"{number:02d}": folder / "stores" / f"{number:02d}"
                       for number in range(20)}
        for name, path in self.stores.items():
            initialise(str(path), name)
        self.archive = Archive(folder, Grid(folder, wrap=lambda store: DirectoryStore(
            store.name, str(self.stores[store.name]))))
        self.archivist = self.archive.archivist()
        self.bodies: dict[str, bytes] = {}
        self.rng = random.Random(5)

    async def store(self, count: int) -> None:
        """Objects of their own, and as many in packs."""
        grid = self.archive.grid
        for number in range(count):
            body = self.rng.randbytes(self.rng.randrange(100, 30_000))
            self.bodies[await grid.store(body)] = body
            if not number % 3:
                some = [self.rng.randbytes(self.rng.randrange(900)) for _ in range(3)]
                entries = [await grid.entry(await grid.accept(body)) for body in some]
                links = await grid.ingest.store_pack(entries)
                await grid.spool.finish([])
                self.bodies.update(zip(map(str, links), some, strict=True))

    async def delete(self, link: str) -> None:
        """As a later version may: the record goes, shards may stay behind."""
        del self.bodies[link]
        await self.archive.metadata.delete([parse_link(link)[0].metadata_id])

    async def lose(self) -> dict[int, bytes]:
        """The metadata host is gone; the files of its log, to compare."""
        await self.archive.close()
        await self.archive.grid.writer.close()
        log = self.archive.folder / "log" / "default"
        files = {int(path.name[1:]): path.read_bytes() for path in log.glob("d[0-9]*")}
        shutil.rmtree(self.folder / "log")
        return files

    def paths(self, name: str = "new") -> config.Paths:
        """An empty machine."""
        paths = config.load(self.folder / name, environ={}).paths
        paths.root.mkdir(exist_ok=True)
        return paths

    async def recover(self, name: str = "new", *, trusted: bytes | None = None,
                      without: tuple[str, ...] = (), verify: bool = False,
                      dry_run: bool = False) -> Summary:
        paths = self.paths(name)
        settings = [StoreSettings(store, f"dir://{path}") for store, path in self.stores.items()
                    if store not in without]
        empty = config.load(self.folder / name, environ={})
        return await wiring.recover(settings, paths.metadata, None if dry_run else empty, trusted,
                                    lambda *_: None, verify=verify)

    def index_files(self) -> list[Path]:
        return [path / key[:2] / key for path in self.stores.values() for key in INDEX_KEYS]

    @contextlib.asynccontextmanager
    async def served(self, name: str = "new") -> AsyncIterator[ZdbMetadata]:
        """What was recovered, by a server on it. Every object can be read there."""
        server = ZdbServer(ServerSettings(self.paths(name).metadata,
                                          unix=self.folder / f"{name}.sock", segment_size=SEGMENT))
        await server.start()
        metadata = ZdbMetadata(Address(unix=self.folder / f"{name}.sock"))
        try:
            self.archive.grid.use(metadata)
            for link, body in self.bodies.items():
                assert await self.archive.grid.read(link) == body
            yield metadata
        finally:
            await metadata.close()
            await server.close()

    async def check(self, name: str = "new") -> None:
        """What was recovered has every object, and no other."""
        known, parts = set(), {}
        async with self.served(name) as metadata:
            async for number, stored in metadata.scan():
                record = decode_record(stored)
                if isinstance(record, ObjectRecord) and is_ours(record):
                    parts[number] = stored
                elif isinstance(record, ObjectRecord):
                    known.add(number)
        index = decode_copy((self.paths(name).containers / "index").read_bytes()).index
        assert parts == {row.metadata_id: row.record for row in (*index.rows, *index.retired)}
        assert known == {parse_link(link)[0].metadata_id for link in self.bodies}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    await made.archive.start()
    yield made
    await made.archive.close()
    await made.archive.grid.close()


def lose_shards(site: Site, stripes: StripeSet, numbers: range) -> None:
    """Packs share their shards: some may be lost already."""
    for number in numbers:
        key = f"{stripes.key.hex()}-{number:02d}"
        (site.stores[stripes.stores[number]] / key[:2] / key).unlink(missing_ok=True)


def log_of(paths: config.Paths) -> dict[int, bytes]:
    return {int(path.name[1:]): path.read_bytes()
            for path in (paths.metadata / "default").glob("d[0-9]*")}


async def history(site: Site) -> tuple[str, str]:
    """A log of several files in the pool, and more behind it; two links that were deleted."""
    await site.store(24)
    first, second, *_ = list(site.bodies)
    await site.delete(first)
    await site.archive.fill(60)
    await site.archivist.look(now=True)
    await site.store(4)
    await site.archive.fill(20)
    await site.archivist.look(now=True)
    await site.archivist.look(now=True)
    assert sum(row.closed for row in (await site.archive.index()).rows) >= 2
    await site.store(7)
    return first, second


async def test_the_log_byte_by_byte_and_the_rest_from_shards(site: Site) -> None:
    await history(site)
    index = await site.archive.index()
    lost = await site.lose()
    summary = await site.recover(verify=True)
    assert summary.complete, (summary.missing.first, summary.broken.first)
    assert summary.index == index
    assert summary.salvaged["objects"] == 7 + 3 * 3
    assert summary.in_log["objects"] + summary.salvaged["objects"] == len(site.bodies)
    assert summary.verified == len(site.bodies)
    again = log_of(site.paths())
    for file, content in lost.items():
        kept = index.covered(file)
        assert again.get(file, b"")[:kept] == content[:kept]
    assert all(lost[row.file] == again[row.file] for row in index.rows if row.closed)
    await site.check()


async def go_on(site: Site, name: str) -> Archivist:
    """Run on what was recovered."""
    paths, grid = site.paths(name), site.archive.grid
    again = Archive(site.folder / name, grid)
    again.server = ZdbServer(ServerSettings(paths.metadata, unix=site.folder / "z.sock",
                                            segment_size=SEGMENT))
    again.metadata = ZdbMetadata(Address(unix=site.folder / "z.sock"))
    again.identity = load_identity(paths.identity)
    again.log._server, again.place = again.server, type(again.place)(paths.containers)
    await again.start()
    site.archive, grid.metadata = again, again.metadata
    grid.use(again.metadata)
    return again.archivist()


async def test_the_archivist_goes_on_after_a_recovery(site: Site) -> None:
    await history(site)
    before = await site.archive.index()
    await site.lose()
    summary = await site.recover()
    paths = site.paths()
    signer = load_identity(paths.identity)
    for path in site.index_files():
        copy = decode_copy(path.read_bytes())
        assert (copy.key, copy.index.sequence) == (signer.public_key, before.sequence + 1)
        assert copy.index.epoch == summary.epoch == 1
    archivist = await go_on(site, "new")
    await archivist.look(now=True)
    await site.store(5)
    await archivist.look(now=True)
    rows = (await site.archive.index()).rows
    assert {row.link for row in before.rows if row.closed} <= {row.link for row in rows}
    await site.archive.close()
    shutil.rmtree(paths.metadata)
    second = await site.recover("third")
    assert second.complete and second.epoch == 2
    await site.check("third")


@pytest.mark.parametrize("gone", [1, 4])
async def test_without_some_stores(site: Site, gone: int) -> None:
    await history(site)
    await site.lose()
    names = tuple(site.rng.sample(sorted(site.stores), gone))
    for name in names:
        shutil.rmtree(site.stores[name])
    summary = await site.recover(without=names[:2])
    assert summary.complete
    assert summary.in_log["objects"] and summary.salvaged["objects"]
    await site.check()


async def test_without_any_index_all_comes_from_shards(site: Site) -> None:
    first, _ = await history(site)
    for path in site.index_files():
        path.unlink()
    await site.lose()
    summary = await site.recover()
    assert summary.complete and summary.index is None
    # Nothing but the log knew that one was deleted.
    assert summary.salvaged["objects"] == len(site.bodies) + 1
    with pytest.raises(AssertionError, match=str(parse_link(first)[0].metadata_id)):
        await site.check()


@pytest.mark.parametrize("kind", ["cut", "empty", "flip", "older", "foreign"])
async def test_damaged_and_old_index_copies(site: Site, kind: str) -> None:
    await site.store(20)
    await site.archivist.look(now=True)
    old = site.index_files()[0].read_bytes()
    await history(site)
    index = await site.archive.index()
    await site.lose()
    good = site.index_files()[6].read_bytes(), site.index_files()[7].read_bytes()
    for path in site.index_files()[:6] + site.index_files()[8:]:
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[site.rng.randrange(len(content))] ^= 1 << site.rng.randrange(8)
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"",
                          "flip": bytes(flipped), "older": old, "foreign": os.urandom(500)}[kind])
    assert max(decode_copy(stored).index.sequence for stored in good) == index.sequence
    summary = await site.recover()
    assert summary.complete and summary.index == index
    assert len(summary.refused) == (0 if kind == "older" else 38)
    await site.check()


async def test_several_signers_are_refused_and_listed_unless_one_is_trusted(site: Site) -> None:
    await history(site)
    index = await site.archive.index()
    await site.lose()
    evil = Identity(os.urandom(32))
    forged = sign(replace_rows(index, ()), evil)
    for path in site.index_files()[:9]:
        path.write_bytes(forged.stored)
    with pytest.raises(SetupError) as refusal:
        await site.recover()
    assert evil.public_key.hex() in str(refusal.value)
    assert site.archive.identity.public_key.hex() in str(refusal.value)
    assert not site.paths().metadata.exists()
    summary = await site.recover(trusted=site.archive.identity.public_key)
    assert summary.complete and summary.index == index
    assert {row.place for row in summary.refused} == {"00", "01", "02", "03", "04"}
    await site.check()


def replace_rows(index: ContainerIndex, rows: tuple[Container, ...]) -> ContainerIndex:
    return ContainerIndex(index.sequence + 50, index.log_id, index.epoch, 0, rows)


@pytest.mark.parametrize("broken", ["first", "second", "tail"])
async def test_a_part_of_the_log_that_is_lost_is_made_good_from_shards(
    site: Site, broken: str
) -> None:
    await history(site)
    rows = (await site.archive.index()).rows
    row = {"first": rows[0], "second": rows[1], "tail": rows[-1]}[broken]
    stripes = row.object_record.stripes
    assert stripes is not None
    await site.lose()
    lose_shards(site, stripes, range(3, 8))
    summary = await site.recover()
    assert summary.broken.count == 1
    assert not summary.complete
    assert summary.missing.count == 0
    async with site.served():
        pass


@pytest.mark.parametrize("broken", [0, 1, -1])
async def test_after_a_lost_part_the_log_is_kept_again(site: Site, broken: int) -> None:
    """What is listed must be what the log has, or a second recovery mixes the two."""
    await history(site)
    stripes = (await site.archive.index()).rows[broken].object_record.stripes
    assert stripes is not None
    await site.lose()
    lose_shards(site, stripes, range(3, 8))
    assert (await site.recover()).broken.count == 1
    archivist = await go_on(site, "new")
    await archivist.look(now=True)
    await site.store(5)
    await archivist.look(now=True)
    kept = await site.archive.kept()
    for part in (await site.archive.log.state()).files:
        assert kept[part.file] and site.archive.content(part.file).startswith(kept[part.file])
    await site.archive.close()
    shutil.rmtree(site.paths().metadata)
    summary = await site.recover("third")
    assert summary.complete, summary.broken.first
    if broken:  # what the first file deleted is back, as the deletion is lost
        await site.check("third")


async def moved(site: Site, *, promoted: bool) -> Archivist:
    """Go on with the copy of the log, of a slave that had no more; its archivist."""
    before = site.archive
    site.archive = Archive(site.folder / "copy", before.grid)
    site.archive.identity = before.identity
    await site.archive.start()
    if promoted:
        site.archive.server.store.begin_epoch(1, bytes(16), "after the old master")
    return site.archive.archivist()


def copy_log(site: Site) -> None:
    """A slave has this much of it."""
    shutil.copytree(site.folder / "log", site.folder / "copy" / "log")


@pytest.mark.parametrize("more", [0, 30])
async def test_a_slave_that_lacked_what_is_in_the_pool_already(site: Site, more: int) -> None:
    """The ids of the parts that it did not have go to its own objects, and its bytes count.

    more: objects that were stored at the master and not copied, besides the record of the part.
    """
    await site.store(12)
    copy_log(site)
    bodies = dict(site.bodies)
    await site.store(more)
    await site.archivist.look(now=True)
    site.bodies = bodies
    await site.archive.close()
    archivist = await moved(site, promoted=True)
    await site.store(3)
    await archivist.look(now=True)
    await site.store(9)
    await archivist.look(now=True)
    kept = await site.archive.kept()
    assert kept and all(site.archive.content(file).startswith(part) for file, part in kept.items())
    await site.archive.fill(3)
    await site.archive.close()
    await site.archive.grid.writer.close()
    await site.recover()
    async with site.served():
        pass


async def test_a_part_never_takes_the_id_of_an_object(site: Site) -> None:
    """An index from before parts of a former master were left out."""
    await site.store(6)
    await site.store(6)
    user = parse_link(next(reversed(site.bodies)))[0].metadata_id
    await site.archivist.look(now=True)
    now = await site.archive.index()
    row = now.rows[0]
    false = Container(row.file, row.start, row.end, row.closed, user, row.record)
    for kind in ({"retired": (*now.retired, false)}, {"rows": (false,)}):
        copy = sign(ContainerIndex(now.sequence + 1, now.log_id, now.epoch, 5, **{
            "rows": now.rows, "retired": now.retired, **kind}), site.archive.identity)
        for path in site.index_files():
            path.write_bytes(copy.stored)
        name = "-".join(kind)
        assert (await site.recover(name)).complete
        again = decode_copy((site.paths(name).containers / "index").read_bytes()).index
        assert user not in {row.metadata_id for row in (*again.rows, *again.retired)}
        await site.check(name)
    await site.archive.close()


@pytest.mark.parametrize("written", [0, 2, 30])
async def test_a_metadata_host_put_back_from_a_copy_writes_no_more(
    site: Site, written: int
) -> None:
    """Nor does it touch the index. written: objects before the stores were looked at."""
    await site.store(6)
    await site.archivist.look(now=True)
    copy_log(site)
    await site.store(9)
    await site.archivist.look(now=True)
    before = [path.read_bytes() for path in site.index_files()]
    await site.archive.close()
    archivist = await moved(site, promoted=False)
    await site.store(written)
    with pytest.raises(Superseded, match="more of this metadata log than its server"):
        await archivist.look(now=True)
    assert [path.read_bytes() for path in site.index_files()] == before
    with pytest.raises(MetadataUnavailable, match="this old copy of the log"):
        await site.archive.metadata.reserve([b"an id that was given before"])


async def test_a_log_that_lost_its_end_goes_on_behind_all_its_ids(site: Site) -> None:
    """The pool has more of it too, but no id is given twice: it takes writes."""
    await site.store(6)
    await site.archivist.look(now=True)
    highest = max(row.metadata_id for row in (await site.archive.index()).rows)
    await site.archive.close()
    last = max((site.folder / "log" / "default").glob("d[0-9]*"))
    os.truncate(last, last.stat().st_size // 2)
    before, site.archive = site.archive, Archive(site.folder, site.archive.grid)
    site.archive.identity = before.identity
    await site.archive.start()
    with pytest.raises(Superseded, match="more of this metadata log than its server"):
        await site.archive.archivist().look(now=True)
    number, = await site.archive.metadata.reserve([b"a new one"])
    assert number > highest


async def test_a_master_that_goes_on_beside_its_successor_writes_no_index(site: Site) -> None:
    """It is cut off from the one that was promoted, and not from the stores."""
    await site.store(6)
    await site.archivist.look(now=True)
    copy_log(site)
    await site.store(3)
    old, cut_off = site.archive, site.archivist
    await (await moved(site, promoted=True)).look(now=True)
    before = [path.read_bytes() for path in site.index_files()]
    await old.fill(3)
    with pytest.raises(Superseded, match="gone on elsewhere"):
        await cut_off.look(now=True)
    assert [path.read_bytes() for path in site.index_files()] == before
    with pytest.raises(MetadataUnavailable, match=r"another server was promoted \(epoch 1\)"):
        await old.metadata.reserve([b"an id that its successor gives too"])
    await old.close()


@pytest.mark.parametrize("listed", ["nothing", "an empty index", "own copy only"])
async def test_a_host_that_the_stores_never_listed_writes_no_more_after_a_recovery(
    site: Site, listed: str
) -> None:
    """It was killed before they did, so the recovery began another log."""
    if listed == "an empty index":
        await site.archivist.look(now=True)
        assert all(not decode_copy(path.read_bytes()).index.rows for path in site.index_files())
    await site.store(6)
    if listed == "own copy only":
        await site.archivist.look(now=True)
        for path in site.index_files():
            path.unlink()
    summary = await site.recover()
    assert summary.salvaged["objects"] and not summary.containers
    before = [path.read_bytes() for path in site.index_files()]
    with pytest.raises(Superseded, match="gone on elsewhere"):
        await site.archive.archivist().look(now=True)
    assert [path.read_bytes() for path in site.index_files()] == before
    with pytest.raises(MetadataUnavailable, match=r"recovered from the stores"):
        await site.archive.metadata.reserve([b"an id that the other one gives too"])
    await site.archive.close()
    archivist = await go_on(site, "new")
    await site.store(3)
    await archivist.look(now=True)
    assert (await site.archive.index()).rows


async def test_an_id_that_metadata_begun_anew_gave_again_is_named(site: Site) -> None:
    """Somebody started on empty metadata, stored, and then recovers: the old links are kept."""
    await site.store(3)
    await site.archivist.look(now=True)
    old, grid = dict(site.bodies), site.archive.grid
    await site.lose()
    second = Archive(site.folder / "second", grid)
    await second.start()
    link = await grid.store(b"a new one")
    assert parse_link(link)[0].metadata_id in {parse_link(one)[0].metadata_id for one in old}
    await second.close()
    summary = await site.recover()
    assert link in summary.lost.first and not summary.complete
    await site.check()


async def pack_of(site: Site, count: int) -> list[int]:
    """Objects in a pack of their own; where the entries of its commit end in the open file."""
    grid = site.archive.grid
    before = (await site.archive.log.state()).files[-1]
    bodies = [site.rng.randbytes(site.rng.randrange(900)) for _ in range(count)]
    entries = [await grid.entry(await grid.accept(body)) for body in bodies]
    links = await grid.ingest.store_pack(entries)
    await grid.spool.finish([])
    site.bodies.update(zip(map(str, links), bodies, strict=True))
    after = (await site.archive.log.state()).files[-1]
    assert before.file == after.file
    ends, at = [], before.size
    async for entry in log_entries(site.archive.log, after.file, before.size, after.size):
        at += ENTRY.size + 8 + len(entry.value)
        if isinstance(entry.record, PackRecord | ObjectRecord):
            ends.append(at)
    assert at == after.size and len(ends) == count + 1
    return ends


@pytest.mark.parametrize("kept", [0, 1, 3])
async def test_a_log_that_ends_between_a_pack_and_its_objects(site: Site, kept: int) -> None:
    """A part of the log, and a file, may end anywhere: also in the middle of one commit."""
    await site.store(4)
    ends = await pack_of(site, 5)
    site.archive.log.durable = ends[kept]
    await site.archivist.look(now=True)
    site.archive.log.durable = None
    await pack_of(site, 2)
    await site.lose()
    summary = await site.recover()
    assert summary.complete
    assert summary.salvaged == {"objects": 5 - kept + 2, "packs": 1}
    await site.check()


async def test_a_log_that_ends_between_two_packs_that_changed_places(site: Site) -> None:
    """Of two packs in a row in one volume, the second may be in the log first."""
    grid = site.archive.grid
    replaced = site.archive.metadata.replace
    late: list[Any] = []

    async def replace(changes: Any, term: str | None = None) -> list[bool]:
        late.append((changes, term))
        return [True] * len(changes)

    await site.store(1)
    site.archive.metadata.replace = replace  # type: ignore[method-assign]
    entry = await grid.entry(await grid.accept(b"the first"))
    link, = await grid.ingest.store_pack([entry])
    site.bodies[str(link)] = b"the first"
    site.archive.metadata.replace = replaced  # type: ignore[method-assign]
    await pack_of(site, 2)
    await site.archivist.look(now=True)
    for changes, term in late:
        await replaced(changes, term)
    await site.lose()
    summary = await site.recover()
    assert summary.complete
    assert summary.salvaged == {"objects": 1, "packs": 1}
    await site.check()


async def test_objects_of_the_log_that_have_too_few_shards_are_named(site: Site) -> None:
    await history(site)
    lost = [link for link in site.bodies if len(site.bodies[link]) > 2000][:2]
    small = next(link for link in site.bodies if len(site.bodies[link]) < 900)
    for link in (*lost, small):
        stripes = (await site.archive.grid.locate(link)).stripes
        lose_shards(site, stripes, range(5))
    await site.lose()
    summary = await site.recover()
    assert not summary.complete
    named = {name.partition(":")[0] for name in summary.missing.first}
    assert set(lost) <= named and small in named


def remove_shards(site: Site, key: str, keep: int) -> None:
    """As of a worker that was killed when `keep` stores had theirs."""
    found = [path for folder in site.stores.values() for path in folder.glob(f"{key[:2]}/{key}-*")]
    assert len(found) == 20
    for path in found[keep:]:
        path.unlink()


async def cut_off_write(site: Site, *, pack: bool) -> None:
    """Killed before the commit, with shards on ten stores."""
    grid, replaced = site.archive.grid, site.archive.metadata.replace
    before = {path.name[:32] for folder in site.stores.values() for path in folder.glob("??/*-*")}

    async def killed(_: Any, __: str | None = None) -> list[bool]:
        raise MetadataUnavailable("killed")

    # A volume of its own, as a worker has that was just started.
    await grid.writer.close()
    site.archive.metadata.replace = killed  # type: ignore[method-assign]
    entry = await grid.entry(await grid.accept(b"never stored" * 99))
    if pack:
        assert isinstance((await grid.ingest.store_pack([entry]))[0], MetadataUnavailable)
    else:
        with pytest.raises(MetadataUnavailable):
            await grid.ingest.store_object(entry, lambda _: None)
    await grid.writer.close()
    site.archive.metadata.replace = replaced  # type: ignore[method-assign]
    key, = {path.name[:32] for folder in site.stores.values()
            for path in folder.glob("??/*-*") if len(path.name) == 35} - before
    remove_shards(site, key, 10)


@pytest.mark.parametrize("pack", [False, True])
async def test_writes_that_were_cut_off_long_ago_are_nothing_that_is_missing(
    site: Site, pack: bool
) -> None:
    """The log went on for a day without a record of them; of the last ones nobody can tell."""
    site.archive.clock_skew = -2 * 86400
    await site.store(3)
    await cut_off_write(site, pack=pack)
    await site.store(3)
    await site.archivist.look(now=True)
    recent = await site.recover("the same day", dry_run=True)
    assert (recent.missing.count, recent.abandoned.count, recent.complete) == (1, 0, False)
    site.archive.clock_skew += 86405
    await site.store(1)
    await site.archivist.look(now=True)
    later = await site.recover("a day later", dry_run=True)
    assert (later.missing.count, later.abandoned.count, later.complete) == (0, 1, True)
    await cut_off_write(site, pack=pack)
    await site.lose()
    both = await site.recover()
    assert (both.missing.count, both.abandoned.count, both.complete) == (1, 1, False)
    await site.check()


@pytest.mark.parametrize("listed", [False, True])
async def test_what_is_lost_is_named_though_its_id_was_given_again(
    site: Site, listed: bool
) -> None:
    """Too few shards are left of it, and something else has its id."""
    await site.store(3)
    old, grid = dict(site.bodies), site.archive.grid
    gone = next(iter(old))
    stripes = (await grid.locate(gone)).stripes
    await site.lose()
    second = Archive(site.folder / "second", grid)
    await second.start()
    links = [await grid.store(b"new %d" % number) for number in range(4)]
    assert gone[48:56] in {link[48:56] for link in links}
    if listed:
        await second.archivist().look(now=True)
    await second.close()
    remove_shards(site, stripes.key.hex(), 15)
    summary = await site.recover()
    assert any(name.startswith(gone) for name in summary.missing.first)
    assert not summary.complete


async def test_all_that_is_missing_counts_however_much_is_named(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.store(24)
    for link in list(site.bodies):
        stripes = (await site.archive.grid.locate(link)).stripes
        lose_shards(site, stripes, range(5))
    await site.lose()
    whole = await site.recover("all named")
    monkeypatch.setattr("zerostor.engine.salvage.NAMED_MAX", 2)
    summary = await site.recover("two named")
    assert (summary.missing.count, summary.next_id) == (whole.missing.count, whole.next_id)
    assert whole.missing.count >= 24 and len(summary.findings.incomplete) == 2


@pytest.mark.parametrize("begun", [False, True])
async def test_a_gateway_that_still_runs_is_noticed(
    site: Site, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    if begun:
        await history(site)
    salvage = Recovery._salvage

    async def meanwhile(self: Recovery, *arguments: Any) -> Any:
        await site.store(2)
        await site.archivist.look(now=True)
        return await salvage(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Recovery, "_salvage", meanwhile)
        with pytest.raises(SetupError, match="stop all gateways"):
            await site.recover()
    assert not site.paths().metadata.exists()
    await site.lose()
    assert (await site.recover()).complete
    await site.check()


async def test_ids_go_on_beyond_everything_seen(site: Site) -> None:
    await site.store(3)
    await site.archivist.look(now=True)
    await site.archive.fill(5, 40)
    ids = await site.archive.metadata.reserve([encode_record(NoteRecord(str(number)))
                                               for number in range(40)])
    await site.store(1)
    highest = max(ids)
    await site.lose()
    summary = await site.recover()
    assert summary.next_id > highest + 10_000
    async with site.served() as metadata:
        assert await metadata.reserve([b"one"]) == [summary.next_id]

