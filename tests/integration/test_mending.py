"""A damaged log of a master, mended from slaves and the pool: byte for byte, or named by id."""

from __future__ import annotations

import asyncio
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.log_folder import Archive
from tests.fakes.logs import contents, durable, file_size_limit, opened
from zerostor.core.errors import MetadataUnavailable, SetupError
from zerostor.core.log_format import FILE_HEADER_SIZE
from zerostor.engine.archivist import Superseded
from zerostor.engine.kept_log import KeptLog
from zerostor.log_ports import LogPart, LogState, MetadataLog
from zerostor.zdb.mending import Mending, mend
from zerostor.zdb.positions import file_path, index_path
from zerostor.zdb.segments import LogStore

Files = dict[int, bytearray]
RNG = random.Random(7)
STRACE = shutil.which("strace")


class Copy:
    """Adapter of log_ports.MetadataLog: files of a slave, as they are given."""

    def __init__(self, log_id: bytes, files: Files) -> None:
        self.log_id = log_id
        self.files = files

    async def state(self) -> LogState:
        parts = [LogPart(number, len(raw), True) for number, raw in self.files.items()]
        return LogState(self.log_id, 0, False, tuple(parts))

    async def read(self, file: int, offset: int, size: int) -> bytes:
        return bytes(self.files.get(file, b"")[offset : offset + min(size, 20_000)])

    async def close(self) -> None:
        pass


class Log:
    """A log of several files on disk, what was in them, and what a server tells of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.good: Files = {}
        self.contents: dict[bytes, tuple[bytes | None, int]] = {}
        self.state = LogState(b"", 0, True, ())

    async def fill(self) -> None:
        store = opened(self.folder)
        for turn in range(60):
            key = store.insert(RNG.randbytes(RNG.randrange(8000)), turn)
            if turn % 5 == 4:
                store.update(int.from_bytes(key, "little") - 1, b"changed %d" % turn, turn)
        store.append_control(b"something")
        store.delete(7, 99)
        await durable(store)
        self.contents = contents(store)
        self.state = LogState(store.log_id, 0, True,
                              tuple(LogPart(*file) for file in store.log_files()))
        await store.close()
        self.good = {part.file: bytearray(file_path(self.folder, part.file).read_bytes())
                     for part in self.state.files}

    def copy(self) -> Copy:
        return Copy(self.state.log_id, {n: bytearray(raw) for n, raw in self.good.items()})

    @property
    def now(self) -> Files:
        return {part.file: bytearray(file_path(self.folder, part.file).read_bytes())
                for part in self.state.files}

    async def mend(self, *copies: MetadataLog, dry_run: bool = False) -> Mending:
        named = [(f"copy {number}", copy) for number, copy in enumerate(copies)]
        return await mend(self.folder, self.state, named, dry_run=dry_run)

    async def serves(self) -> LogStore:
        store = opened(self.folder)
        assert contents(store) == self.contents
        return store


@pytest.fixture
async def log(tmp_path: Path) -> Log:
    found = Log(tmp_path)
    await found.fill()
    assert len(found.good) > 3
    return found


def flip(raw: bytearray) -> None:
    for _ in range(3):
        at = RNG.randrange(len(raw))
        raw[at] ^= 1 << RNG.randrange(8)


def zero(raw: bytearray) -> None:
    at = RNG.randrange(len(raw))
    raw[at : at + 4096] = bytes(len(raw[at : at + 4096]))


def cut(raw: bytearray) -> None:
    del raw[RNG.randrange(len(raw)) :]


def head(raw: bytearray) -> None:
    raw[:FILE_HEADER_SIZE] = RNG.randbytes(FILE_HEADER_SIZE)


def head_bit(raw: bytearray) -> None:
    raw[RNG.randrange(FILE_HEADER_SIZE)] ^= 16


def all_of_it(raw: bytearray) -> None:
    raw[:] = RNG.randbytes(len(raw))


@pytest.mark.parametrize("spoil", [flip, zero, cut, head, head_bit, all_of_it])
async def test_any_damage_is_mended_byte_for_byte(
    log: Log, spoil: Callable[[bytearray], None]
) -> None:
    for turn in range(6):
        number = turn % (len(log.good) - 1)
        raw = bytearray(log.good[number])
        spoil(raw)
        file_path(log.folder, number).write_bytes(raw)
        before = log.now
        seen = await log.mend(log.copy(), dry_run=True)
        assert seen.complete and seen.damaged
        assert log.now == before, "a dry run changed something"
        mending = await log.mend(log.copy())
        assert mending == seen
        assert [file.number for file in mending.damaged] == [number]
        assert log.now == log.good
        assert not index_path(log.folder, number).exists()
        assert not list(log.folder.glob("mending-*"))
    assert (await log.mend(log.copy())).damaged == []
    await (await log.serves()).close()


async def test_files_that_are_gone(log: Log) -> None:
    for number in (0, 2):
        file_path(log.folder, number).unlink()
    mending = await log.mend(log.copy())
    assert [file.number for file in mending.damaged] == [0, 2]
    assert log.now == log.good
    await (await log.serves()).close()


async def test_each_copy_has_what_the_others_lost(log: Log) -> None:
    first, second = log.copy(), log.copy()
    places = [(100, 200), (9_000, 9_600), (30_000, 30_900)]
    raw = bytearray(log.good[1])
    for start, end in places:
        raw[start:end] = bytes(end - start)
    file_path(log.folder, 1).write_bytes(raw)
    first.files[1][90:300] = RNG.randbytes(210)
    second.files[1][28_000:32_000] = RNG.randbytes(4000)
    mending = await log.mend(first, second)
    assert mending.complete
    assert {name for _, name in mending.damaged[0].mended} == {"copy 0", "copy 1"}
    assert log.now == log.good


async def test_what_nobody_has_is_named_by_its_id(log: Log) -> None:
    store = opened(log.folder)
    places = {slot: store.index.places[slot] for slot in range(8)}
    await store.close()
    raw = bytearray(log.good[0])
    raw[places[1] + 30] ^= 1
    last = log.good[0]
    raw[places[4] : places[4] + 40] = bytes(40)
    file_path(log.folder, 0).write_bytes(raw)
    mending = await log.mend()
    assert not mending.complete
    (found,) = mending.damaged
    assert found.mended == []
    assert next(span.what for span in found.left) == "id 1"
    assert "new ids after id 3 and before id " in found.left[1].what
    copy = log.copy()
    copy.files[0][places[1] + 30] ^= 1
    mending = await log.mend(copy)
    assert [span.what for span in mending.damaged[0].left] == ["id 1"]
    assert len(mending.damaged[0].mended) == 1
    assert log.now[0] == bytearray(last[: places[1] + 30]) + bytes([last[places[1] + 30] ^ 1]) + \
        last[places[1] + 31 :]


async def test_what_the_first_of_two_runs_mended_is_told_with_the_second(log: Log) -> None:
    """The open file is mended in a second run, once it is closed; here nobody has it."""
    last = max(log.good)
    raw = bytearray(log.good[1])
    for at in (500, 20_000):
        raw[at : at + 90] = bytes(90)
    file_path(log.folder, 1).write_bytes(raw)
    file_path(log.folder, last).write_bytes(log.good[last][:-9] + bytes(9))
    copy = log.copy()
    copy.files[1][20_000:20_090] = bytes(90)
    del copy.files[last]
    first = await log.mend(copy)
    again = await log.mend(copy)
    assert [bool(file.mended) for file in again.damaged] == [False, False]
    both = first.then(again)
    assert [file.number for file in both.damaged] == [1, last]
    assert both.damaged[0].mended == first.damaged[0].mended != []
    assert [file.left for file in both.damaged] == [file.left for file in again.damaged]
    whole = both.then(await log.mend(log.copy()))
    assert [(file.number, file.left == []) for file in whole.damaged] == [(1, True), (last, False)]
    assert len(whole.damaged[0].mended) == 2


class Failing(Copy):
    """Fails when it is read."""

    async def read(self, file: int, offset: int, size: int) -> bytes:
        raise MetadataUnavailable(f"no {file} {offset} {size}")


class Endless(Copy):
    """Says it has more than there is, and sends anything."""

    async def state(self) -> LogState:
        state = await super().state()
        return state._replace(files=tuple(part._replace(size=part.size + 5000)
                                          for part in state.files))

    async def read(self, file: int, offset: int, size: int) -> bytes:
        return RNG.randbytes(size)


async def test_bad_copies_change_nothing(log: Log, tmp_path: Path) -> None:
    raw = bytearray(log.good[1])
    zero(raw)
    file_path(log.folder, 1).write_bytes(raw)
    before = log.now
    other = Log(tmp_path / "other")
    other.folder.mkdir()
    await other.fill()
    stranger = Copy(log.state.log_id, other.good)
    lies = [other.copy(), stranger, Failing(log.state.log_id, log.good),
            Endless(log.state.log_id, log.good)]
    mending = await log.mend(*lies)
    assert not mending.complete
    assert log.now == before
    assert any("another log" in note for note in mending.notes)
    mending = await log.mend(*lies, log.copy())
    assert mending.complete
    assert log.now == log.good


async def test_one_at_a_time_and_what_a_killed_one_left_goes(log: Log) -> None:
    raw = bytearray(log.good[1])
    zero(raw)
    file_path(log.folder, 1).write_bytes(raw)
    (log.folder / "mending-d1").write_bytes(bytes(1000))
    (log.folder / "mending-d77").write_bytes(bytes(1000))
    ended = await asyncio.gather(*(log.mend(log.copy()) for _ in range(2)), return_exceptions=True)
    refused = [str(each) for each in ended if isinstance(each, SetupError)]
    assert len(refused) == 1 and "another `zerostor mend`" in refused[0]
    assert log.now == log.good
    assert not list(log.folder.glob("mending-*"))
    assert (await log.mend(log.copy())).damaged == []


async def test_a_bad_copy_that_is_longer_hides_no_good_one(log: Log) -> None:
    """The end of a file is gone: whoever says that it has most of it is not the only one asked."""
    raw = bytearray(log.good[1])
    file_path(log.folder, 1).write_bytes(raw[: len(raw) // 2])
    before = log.now
    shorter, spoilt = log.copy(), log.copy()
    shorter.files[1] = shorter.files[1][: len(raw) * 3 // 4]
    spoilt.files[1][-200:] = RNG.randbytes(200)
    assert not (await log.mend(spoilt)).complete
    assert log.now == before, "an entry that our end cuts through is not whole with a part of it"
    mending = await log.mend(Endless(log.state.log_id, log.good), shorter, log.copy())
    assert mending.complete and mending.damaged[0].mended[0][1] == "copy 2"
    assert log.now == log.good


class Boundless(Copy):
    """Says that it has more than a file can have."""

    def __init__(self, log_id: bytes, files: Files) -> None:
        super().__init__(log_id, files)
        self.sent = 0

    async def state(self) -> LogState:
        return (await super().state())._replace(files=(LogPart(1, 2**62, True),
                                                       LogPart(-1, 5, True)))

    async def read(self, file: int, offset: int, size: int) -> bytes:
        self.sent += size
        assert self.sent < 2**30, "the disk is filled"
        return bytes(size)


async def test_a_copy_that_never_ends_fills_no_disk(log: Log) -> None:
    raw = bytearray(log.good[1])
    file_path(log.folder, 1).write_bytes(raw[: len(raw) // 2])
    mending = await log.mend(Boundless(log.state.log_id, log.good), log.copy())
    assert mending.complete and log.now == log.good


async def test_a_file_that_nobody_has_is_named(log: Log) -> None:
    file_path(log.folder, 1).unlink()
    mending = await log.mend()
    assert not mending.complete
    (found,) = mending.damaged
    assert found.number == 1 and "ids below " in found.left[0].what
    assert (await log.mend(log.copy())).complete
    assert log.now == log.good


async def test_a_full_disk_leaves_all_as_it_is(log: Log) -> None:
    raw = bytearray(log.good[1])
    zero(raw)
    file_path(log.folder, 1).write_bytes(raw)
    before = log.now
    with file_size_limit(len(raw) // 2), pytest.raises(SetupError, match="cannot be mended"):
        await log.mend(log.copy())
    assert log.now == before and not list(log.folder.glob("mending-*"))
    assert (await log.mend(log.copy())).complete
    assert log.now == log.good


MENDS = """
import asyncio, pickle, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tests.integration.test_mending import Copy
from zerostor.core.errors import SetupError
from zerostor.zdb.mending import mend

async def main():
    # One thread, since strace counts the calls of each.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    state, files = pickle.load(sys.stdin.buffer)
    copies = [("copy", Copy(state.log_id, files))]
    try:
        mending = await mend(Path(sys.argv[1]), state, copies, dry_run=False)
        print([(file.number, file.left) for file in mending.damaged])
    except SetupError as error:
        print(error)

asyncio.run(main())
"""


@pytest.mark.skipif(STRACE is None, reason="needs strace")
@pytest.mark.parametrize(("when", "said"), [("", "[(1, [])]"), (":when=3", "not read twice")])
async def test_a_bad_sector_is_damage(log: Log, when: str, said: str) -> None:
    """Of which reads fail: all, or one after it was looked at, which must replace nothing."""
    path = file_path(log.folder, 1)
    path.write_bytes(log.good[1][:-50] + bytes(50))
    before = log.now
    trace = log.folder / "trace"
    ended = await asyncio.to_thread(
        subprocess.run,
        [str(STRACE), "-D", "-f", "--seccomp-bpf", "-o", str(trace), "-P", str(path),
         "-e", "trace=read,pread64", "-e", f"inject=read,pread64:error=EIO{when}",
         sys.executable, "-c", MENDS, str(log.folder)],
        input=pickle.dumps((log.state, log.good)), capture_output=True, timeout=60, check=False)
    assert "INJECTED" in trace.read_text()
    assert said in ended.stdout.decode(), ended.stderr
    assert log.now == (before if when else log.good)


class Cutting(Copy):
    """While it is read, the server puts the end of its log aside, as who was superseded does."""

    def __init__(self, log: Log) -> None:
        super().__init__(log.state.log_id, log.good)
        self._path = file_path(log.folder, 1)

    async def read(self, file: int, offset: int, size: int) -> bytes:
        self._path.write_bytes(self._path.read_bytes()[:1000])
        return await super().read(file, offset, size)


async def test_a_file_that_changed_meanwhile_is_left_alone(log: Log) -> None:
    raw = bytearray(log.good[1])
    raw[5000:6000] = bytes(1000)
    file_path(log.folder, 1).write_bytes(raw)
    with pytest.raises(SetupError, match="changed meanwhile"):
        await log.mend(Cutting(log))
    assert log.now[1] == raw[:1000]
    assert not list(log.folder.glob("mending-*"))


async def test_what_a_superseded_master_wrote_is_not_taken(tmp_path: Path) -> None:
    """It is good, and lies behind the end of a file here; but its ids are others' by now."""
    folders = tmp_path / "promoted", tmp_path / "old"
    folders[1].mkdir()
    store = opened(folders[1])
    for turn in range(20):
        store.insert(b"%d" % turn, turn)
    await durable(store)
    shutil.copytree(folders[1], folders[0])
    for turn in range(5):
        store.insert(b"never copied %d" % turn, turn)
    await durable(store)
    copy = Copy(store.log_id, {0: bytearray(file_path(folders[1], 0).read_bytes())})
    await store.close()
    promoted = opened(folders[0])
    promoted.rotate()
    promoted.insert(b"of the new master", 1)
    await durable(promoted)
    log = Log(folders[0])
    log.state = LogState(promoted.log_id, 1, True,
                         tuple(LogPart(*file) for file in promoted.log_files()))
    before = log.now
    assert await log.mend(copy) == Mending(2, [], [])
    assert log.now == before
    await promoted.close()


async def test_another_folder_is_refused(log: Log) -> None:
    log.state = log.state._replace(log_id=bytes(16))
    with pytest.raises(SetupError, match="does not hold"):
        await log.mend(log.copy())


async def test_a_lost_end_comes_back_and_no_id_is_somebody_elses(log: Log) -> None:
    """The last file is gone; a start went on beyond it; then a slave that has it is found."""
    last = max(log.good)
    file_path(log.folder, last).unlink()
    store = opened(log.folder)
    fresh = int.from_bytes(store.insert(b"after the loss", 1), "little")
    await durable(store)
    log.state = log.state._replace(files=tuple(LogPart(*file) for file in store.log_files()))
    mending = await log.mend(log.copy())
    assert [(file.number, file.left) for file in mending.damaged] == [(last, [])]
    await store.reload()
    assert contents(store) == {**log.contents, fresh.to_bytes(8, "little"): (b"after the loss", 1)}
    await store.close()
    again = opened(log.folder)
    assert int.from_bytes(again.insert(b"next", 1), "little") == fresh + 1
    await again.close()


async def test_a_tail_that_was_cut_comes_back(log: Log) -> None:
    last = max(log.good)
    path = file_path(log.folder, last)
    path.write_bytes(path.read_bytes()[:-40])
    store = opened(log.folder)
    fresh = int.from_bytes(store.insert(b"after the loss", 1), "little")
    await durable(store)
    log.state = log.state._replace(files=tuple(LogPart(*file) for file in store.log_files()))
    assert (await log.mend(log.copy())).complete
    await store.reload()
    assert contents(store) == {**log.contents, fresh.to_bytes(8, "little"): (b"after the loss", 1)}
    await store.close()


async def test_from_the_pool(archive: Archive) -> None:
    archivist = archive.archivist()
    for _ in range(6):
        await archive.fill(60)
        await archivist.look(now=True)
    folder = archive.server.settings.directory / "default"
    state = await archive.log.state()
    closed = [part.file for part in state.files if part.closed]
    assert len(closed) > 2
    good = {number: archive.content(number) for number in closed}
    raw = bytearray(good[closed[1]])
    raw[5000:9000] = RNG.randbytes(4000)
    file_path(folder, closed[1]).write_bytes(raw)
    file_path(folder, closed[0]).unlink()
    pool = KeptLog(await archive.index(), archive.grid.reader)
    mending = await mend(folder, state, [("the pool", pool)], dry_run=False)
    assert mending.complete, mending
    assert {number: archive.content(number) for number in closed} == good
    await archive.server.store.reload()
    assert (await archive.log.state()).files[: len(closed)] == state.files[: len(closed)]


async def test_writes_go_on_meanwhile(log: Log) -> None:
    store = opened(log.folder)
    raw = bytearray(log.good[1])
    all_of_it(raw)
    file_path(log.folder, 1).write_bytes(raw)
    more: dict[bytes, tuple[bytes | None, int]] = {}

    async def write() -> None:
        for turn in range(200):
            more[store.insert(b"%d" % turn, 5)] = b"%d" % turn, 5
            await asyncio.sleep(0.001)

    writing = asyncio.ensure_future(write())
    await asyncio.sleep(0.01)
    log.state = log.state._replace(files=tuple(LogPart(*file) for file in store.log_files()))
    assert (await log.mend(log.copy())).complete
    await writing
    await durable(store)
    await store.reload()
    assert contents(store) == {**log.contents, **more}
    await store.close()


async def test_a_damaged_file_does_not_take_the_place_of_its_good_parts(archive: Archive) -> None:
    archivist = archive.archivist()
    await archive.fill(20)
    await archivist.look(now=True)
    store, folder = archive.server.store, archive.server.settings.directory / "default"
    number, kept = store.tip.number, (await archive.index()).covered(store.tip.number)
    await archive.fill(2)
    store.rotate()
    await durable(store)
    good = archive.content(number)
    raw = bytearray(good)
    raw[kept - 900 : kept - 800] = bytes(100)
    file_path(folder, number).write_bytes(raw)
    for _ in range(2):
        await archivist.look(now=True)
    assert (await archive.kept())[number] == good
    pool = KeptLog(await archive.index(), archive.grid.reader)
    mending = await mend(folder, await archive.log.state(), [("the pool", pool)], dry_run=False)
    assert mending.complete and mending.damaged
    assert archive.content(number) == good


@pytest.mark.parametrize("another", [False, True], ids=["it goes on", "another gateway"])
async def test_what_the_pool_got_damaged_is_replaced_once_it_is_mended(
    archive: Archive, another: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zerostor.engine.archivist.DAMAGED_PERIOD", 0.0)
    archivist = archive.archivist()
    await archive.fill(20)
    store, folder = archive.server.store, archive.server.settings.directory / "default"
    number = store.tip.number
    store.rotate()
    await durable(store)
    good = archive.content(number)
    file_path(folder, number).write_bytes(good[:5000] + bytes(100) + good[5100:])
    for _ in range(2):
        await archivist.look(now=True)
    assert (await archive.kept())[number] == archive.content(number) != good
    slave = Copy(store.log_id, {number: bytearray(good)})
    state = await archive.log.state()
    assert (await mend(folder, state, [("a slave", slave)], dry_run=False)).complete
    again = archive.archivist() if another else archivist
    await again.look(now=True)
    assert (await archive.kept())[number] == good
    index = await archive.index()
    await again.look()
    assert await archive.index() == index, "it was stored again"


async def test_the_copy_in_the_pool_is_not_replaced_by_less(archive: Archive) -> None:
    """A last file that lost its end is closed by the next start; the pool has more of it."""
    archivist = archive.archivist()
    for _ in range(3):
        await archive.fill(20)
        await archivist.look(now=True)
    store, folder = archive.server.store, archive.server.settings.directory / "default"
    await durable(store)
    number = store.tip.number
    good = archive.content(number)
    index = await archive.index()
    file_path(folder, number).write_bytes(good[: index.covered(number) - 50])
    await store.reload()
    assert store.tip.number == number + 1
    for gateway in (archivist, archive.archivist()):
        with pytest.raises(Superseded, match="zerostor mend"):
            await gateway.look(now=True)
    assert await archive.index() == index, "the longer copy was given up"
    pool = KeptLog(index, archive.grid.reader)
    mending = await mend(folder, await archive.log.state(), [("the pool", pool)], dry_run=False)
    assert mending.complete and mending.damaged
    await store.reload()
    kept = index.covered(number)
    assert archive.content(number)[:kept] == good[:kept]
    await archive.fill(3)
    await archivist.look(now=True)
    assert (await archive.kept())[number] == archive.content(number)
