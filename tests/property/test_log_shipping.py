"""A follower gets the raw log in random cuts and is killed at any point: it ends byte-identical."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.logs import (
    OPERATIONS,
    SMALL,
    Operation,
    columns,
    contents,
    durable,
    files,
    forget_index_files,
    opened,
    step,
)
from zerostor.core.log_format import Mode
from zerostor.zdb.positions import Position
from zerostor.zdb.segments import LogStore
from zerostor.zdb.shipping import LogRefused

FOLLOW = SMALL._replace(follow="this is a slave")
MODES = pytest.mark.parametrize("mode", list(Mode))
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["write", "ship", "ship", "ship", "settle", "kill", "reopen", "garbage",
                         "again"]),
        st.integers(1, 70_000),
    ),
    max_size=25,
)


def next_chunk(master: LogStore, slave: LogStore, size: int) -> tuple[Position, bytes] | None:
    """What a link would send: from where the slave is, or the next file's beginning."""
    at = slave.received
    if at.number < 0:
        at = Position(master.log_files()[0].number, 0)
    chunk = master.read_log(*at, size)
    if not chunk:
        sizes = {file.number: file for file in master.log_files()}
        known = sizes.get(at.number)
        if known is None or not known.closed or at.offset < known.size:
            return None
        at = Position(at.number + 1, 0)
        chunk = master.read_log(*at, size)
    return (at, chunk) if chunk else None


def ship(master: LogStore, slave: LogStore, size: int) -> bool:
    found = next_chunk(master, slave, size)
    if found is None:
        return False
    slave.append_log(*found[0], found[1])
    return True


def refused(slave: LogStore, at: Position, chunk: bytes) -> None:
    """Bytes that are wrong are refused, or wait for the rest of what they claim to be."""
    try:
        slave.append_log(*at, chunk)
    except LogRefused:
        return
    with pytest.raises(LogRefused):
        slave.append_log(at.number, at.offset + len(chunk) + 1, b"gap")


async def kill(slave: LogStore, folder: Path, kept: float) -> LogStore:
    """What a kill -9 leaves: what was durable, and of what came behind any part from the start."""
    number, offset = slave.durable
    await slave.close()
    for path in sorted(folder.glob("d*"), key=lambda path: int(path.name[1:]), reverse=True):
        least = offset if int(path.name[1:]) == number else 0
        if int(path.name[1:]) < number:
            break
        (folder / f"i{path.name[1:]}").unlink(missing_ok=True)
        size = path.stat().st_size
        if kept or int(path.name[1:]) == number:
            os.truncate(path, round(kept * (size - least)) + least)
            break
        path.unlink()
    return opened(folder, FOLLOW._replace(mode=slave.mode))


async def same(master: LogStore, slave: LogStore, folders: tuple[Path, Path]) -> None:
    while ship(master, slave, 100_000):
        pass
    await durable(slave)
    assert slave.durable == master.durable == slave.received
    assert files(folders[0], master) == files(folders[1], slave)
    assert columns(slave) == columns(master)
    assert slave.log_id == master.log_id
    for file in master.log_files():
        assert await slave.digest(file.number, file.size) == await master.digest(
            file.number, file.size
        )
    await slave.close()
    for quick in (True, False):
        if not quick:
            forget_index_files(folders[1])
        again = opened(folders[1], FOLLOW._replace(mode=master.mode))
        assert columns(again) == columns(master)
        assert contents(again) == contents(master)
        await again.close()


class Link:
    """A master, a slave and what happens between them."""

    def __init__(self, folder: Path, mode: Mode, operations: list[Operation]) -> None:
        self.folders = (folder / "master", folder / "slave")
        for each in self.folders:
            each.mkdir()
        self.settings = FOLLOW._replace(mode=mode)
        self.master = opened(self.folders[0], SMALL._replace(mode=mode))
        self.slave = opened(self.folders[1], self.settings)
        # A cleared log is another log: the slave would be emptied first.
        self.todo = [operation for operation in operations if operation[0] != "clear"]

    async def write(self, size: int) -> None:
        for operation in self.todo[:size]:
            step(self.master, operation)
        del self.todo[:size]
        await durable(self.master)

    async def ship(self, size: int) -> None:
        ship(self.master, self.slave, size)

    async def settle(self, _: int) -> None:
        await durable(self.slave)

    async def kill(self, size: int) -> None:
        self.slave = await kill(self.slave, self.folders[1], size % 1000 / 999)

    async def reopen(self, _: int) -> None:
        await self.slave.close()
        self.slave = opened(self.folders[1], self.settings)

    async def garbage(self, size: int) -> None:
        refused(self.slave, self.slave.received, bytes([size % 251 + 1]) * size)

    async def again(self, _: int) -> None:
        number, offset = self.slave.received
        if offset:
            with pytest.raises(LogRefused):
                self.slave.append_log(number, offset - 1, b"x" * 30)


async def run(
    folder: Path, mode: Mode, operations: list[Operation], events: list[tuple[str, int]]
) -> None:
    link = Link(folder, mode, operations)
    for kind, size in events:
        await getattr(link, kind)(size)
    await link.write(len(operations))
    await same(link.master, link.slave, link.folders)
    await link.master.close()


@MODES
@settings(max_examples=120, deadline=None)
@given(operations=OPERATIONS, events=EVENTS)
def test_master_and_slave_end_byte_identical(
    mode: Mode, operations: list[Operation], events: list[tuple[str, int]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name), mode, operations, events))
