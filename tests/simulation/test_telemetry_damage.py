"""Telemetry whose local files are damaged, and whose book is lost, old or of another stream."""

from __future__ import annotations

import pytest

from tests.fakes.telemetry_here import MemoryTelemetryBook, World, read_all
from tests.fakes.virtual_time import run_virtually
from tests.simulation.test_telemetry import LINE, come, fill, spread, world
from zerostor.core.errors import BackendError


def rot(made: World, number: int, at: int, stream: str = "shed") -> None:
    content = bytearray(made.files.files[stream, number])
    content[at] ^= 1
    made.files.files[stream, number] = bytes(content)


@pytest.mark.parametrize("at", [0, 2000])
def test_without_a_book_one_rotten_file_hides_no_other(at):
    async def run():
        made = world()
        async with made.running() as parts:
            lines = (await fill(parts)).splitlines()
        made.book = MemoryTelemetryBook()
        before = dict(made.files.files)
        rot(made, 2, at)
        for _ in range(2):
            async with made.running() as parts:
                left = (await read_all(parts, "shed")).splitlines()
                missing = [line for line in lines if line not in left]
                assert left[-1] == lines[-1]
                # What begins before it and ends in it is there in part.
                assert 1 < len(missing) <= 5120 // len(lines[500]) and missing[0] in lines[200:500]
                assert parts.telemetry.summary("shed").chunks == (6 if at else 5)
                await parts.telemetry.append("shed", LINE, text=True)
                lines += LINE.splitlines()
        for number in (0, 1, 3, 4, 5):
            assert made.files.files["shed", number] == before["shed", number]

    run_virtually(run())


def test_a_file_that_cannot_be_read_keeps_no_stream_from_being_loaded():
    async def run():
        made = world()
        async with made.running() as parts:
            await fill(parts)
        made.book = MemoryTelemetryBook()
        read, broken = made.files.read, {3, 6}

        async def some(stream: str, number: int) -> bytes:
            if number in broken:
                raise BackendError("the disk is broken here")
            return await read(stream, number)

        made.files.read = some
        async with made.running() as parts:
            assert [held.chunk.number for held in parts.holdings.of_stream("shed")] == [
                0, 1, 2, 4, 5]
            assert (await parts.telemetry.append("shed", LINE, text=True)).number == 7
        made.files.read = read
        async with made.running() as parts:
            assert (await read_all(parts, "shed")).splitlines()[-1] == LINE.strip()
            assert len(set((await read_all(parts, "shed")).splitlines())) == 851

    run_virtually(run())


def test_a_book_older_than_a_stream_that_was_made_again_hides_nothing_of_it():
    async def run():
        made = world()
        come(made.fleet)
        async with made.running() as parts:
            await fill(parts)
            await spread(parts)
            old = dict(made.book.chunks), dict(made.book.copies)
            await parts.telemetry.remove("shed")
            written = await fill(parts, 400)
        there = {node.name: dict(node.chunks) for node in made.fleet.nodes.values()}
        made.book.chunks, made.book.copies = old
        async with made.running() as parts:
            assert await read_all(parts, "shed") == written
            written += await fill(parts, 400)
            await spread(parts)
            assert await read_all(parts, "shed") == written
        for node in made.fleet.nodes.values():
            assert node.chunks.items() >= there[node.name].items()

    run_virtually(run())
