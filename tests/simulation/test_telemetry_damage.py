"""Telemetry whose local files are damaged, and whose book is lost, old or of another stream."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.fakes.telemetry_here import MemoryTelemetryBook, World, read_all
from tests.fakes.virtual_time import run_virtually
from tests.simulation.test_telemetry import (
    LINE,
    come,
    fill,
    spread,
    spread_and_stopped,
    spread_out,
    world,
)
from zerostor.core.errors import BackendError
from zerostor.core.node_chunk import ChunkKind, Envelope, wrap
from zerostor.core.nodes import NodeEventKind
from zerostor.core.spread import SpreadRules


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
        async with spread_out(made) as (parts, _):
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


NODES_ONLY = SpreadRules(copies=2, nodes_only=True)


def on_nodes(made: World) -> dict[str, dict[bytes, bytes]]:
    return {node.name: dict(node.chunks) for node in made.fleet.nodes.values()}


async def on_nodes_alone(made: World, parts, chunks: int) -> None:
    """Until no local file is left but the one that grows."""
    async with asyncio.timeout(4000):
        while parts.telemetry.summary("shed").chunks < chunks or (
                parts.telemetry.summary("shed").local):
            await asyncio.sleep(1)


@pytest.mark.parametrize("grows", [True, False])
def test_what_nodes_alone_have_is_taken_into_a_book_that_was_lost(grows):
    async def run():
        made = world(2, NODES_ONLY)
        come(made.fleet)
        async with made.running() as parts:
            written = await fill(parts)
            if not grows:
                await parts.telemetry.finish_chunk("shed")
            await on_nodes_alone(made, parts, 6)
        there, made.book = on_nodes(made), MemoryTelemetryBook()
        assert [bool(content) for content in made.files.files.values()] == [grows]
        async with made.running() as parts:
            await asyncio.sleep(60)
            assert await read_all(parts, "shed") == written
            await parts.telemetry.append("shed", LINE, text=True)
            assert await read_all(parts, "shed") == written + LINE
            assert {copy.node for copy in parts.holdings.copies_held()} == {"n0", "n1"}
            assert on_nodes(made) == there
            told = [event for event in made.events if event.kind is NodeEventKind.ADOPTED]
            assert {event.node for event in told} == {"n0", "n1"}
        async with made.running() as parts:
            await asyncio.sleep(1)
            assert await read_all(parts, "shed") == written + LINE

    run_virtually(run())


def with_twice(found: bytes, written: bytes) -> int:
    """Bytes that are there twice, the second half of a line perhaps; all that was written is."""
    there, wanted = Counter(found.splitlines()), Counter(written.splitlines())
    assert there >= wanted
    return sum(len(line) + 1 for line in (there - wanted).elements())


def test_numbers_that_an_old_book_handed_out_again_cost_nothing():
    async def run():
        made = world(2, NODES_ONLY)
        come(made.fleet)
        async with made.running() as parts:
            written = await fill(parts, 400)
            await on_nodes_alone(made, parts, 2)
            old = dict(made.book.chunks), dict(made.book.copies), dict(made.files.files)
            written += await fill(parts, 400)
            await parts.telemetry.finish_chunk("shed")
            await on_nodes_alone(made, parts, 6)
        there = on_nodes(made)
        made.book.chunks, made.book.copies, made.files.files = old
        for node in made.fleet.nodes:
            made.fleet.go(node)
        async with made.running() as parts:
            # Of what came behind the copies that were put back, nobody here knows yet.
            later = await fill(parts, 300)
            come(made.fleet)
            await asyncio.sleep(100)
            assert with_twice(await read_all(parts, "shed"), written + later) <= 5120
            later += await fill(parts, 300)
        async with made.running() as parts:
            await asyncio.sleep(100)
            assert with_twice(await read_all(parts, "shed"), written + later) <= 5120
        for name, chunks in there.items():
            assert made.fleet.nodes[name].chunks.items() >= chunks.items()

    run_virtually(run())


def test_a_chunk_that_went_on_under_another_book_is_as_its_file_has_it():
    async def run():
        made = world()
        async with made.running() as parts:
            written = await fill(parts, 200)
            await parts.telemetry.finish_chunk("shed")
        old, made.book = made.book, MemoryTelemetryBook()
        async with made.running() as parts:
            written += await fill(parts, 200)
            assert await read_all(parts, "shed") == written
        made.book = old
        async with made.running() as parts:
            assert await read_all(parts, "shed") == written

    run_virtually(run())


def test_numbers_that_were_given_out_are_not_given_out_again_without_a_book():
    async def run():
        made = world(2, NODES_ONLY)
        come(made.fleet)
        async with made.running() as parts:
            await fill(parts)
            await parts.telemetry.finish_chunk("shed")
            await on_nodes_alone(made, parts, 7)
        made.book = MemoryTelemetryBook()
        async with made.running() as parts:
            assert (await parts.telemetry.append("shed", LINE, text=True)).number == 7

    run_virtually(run())


def test_a_rotten_file_is_made_good_from_a_node_also_without_a_book():
    async def run():
        made = world(3)
        written = await spread_and_stopped(made)
        made.book = MemoryTelemetryBook()
        rot(made, 2, 2000)
        async with made.running() as parts:
            assert await read_all(parts, "shed") != written
            await asyncio.sleep(60)
            assert await read_all(parts, "shed") == written
            assert parts.telemetry.summary("shed").chunks == 6

    run_virtually(run())


def test_local_files_that_rot_or_go_are_written_anew_from_nodes():
    async def run():
        made = world(3, SpreadRules(copies=2, recheck=3600))
        async with spread_out(made) as (parts, written):
            before = dict(made.files.files)
            rot(made, 2, 2000)
            del made.files.files["shed", 4]
            rotten = parts.holdings.at("shed", 2).good()[0]  # one of its copies is no better
            made.fleet.nodes[rotten.node].rot(rotten.chunk, made.random)
            made.files.full = True
            await asyncio.sleep(7200)
            assert made.files.files != before
            made.files.full = False
            await asyncio.sleep(7200)
            assert made.files.files == before
            assert await read_all(parts, "shed") == written

    run_virtually(run())


def test_no_chunk_is_taken_in_that_is_not_of_a_stream_that_is_here():
    async def run():
        made = world(3)
        come(made.fleet)
        node = made.fleet.nodes["n0"]
        async with made.running() as parts:
            await fill(parts, stream="gone")
            await spread(parts, "gone")
            await fill(parts)
            await spread(parts)
            made.fleet.go("n0")
            await asyncio.sleep(1)
            for stream in ("gone", "shed"):
                await parts.telemetry.remove(stream)
                assert {held.chunk.stream for held in parts.holdings.all()} == (
                    {"shed"} if stream == "gone" else set())
            written = await fill(parts, 300)
            await parts.telemetry.settle()
        forged = wrap(Envelope(ChunkKind.TELEMETRY, "shed", 0), made.files.files["shed", 0])
        for number, content in enumerate((forged, b"of another hub")):
            node.chunks[bytes([number]) * 16] = node.digests[bytes([number]) * 16] = content
        # A book that has no tombstones.
        made.book.copies.clear()
        before = dict(node.chunks)
        async with made.running() as parts:
            made.fleet.come("n0")
            await asyncio.sleep(200)
            assert await read_all(parts, "shed") == written
            assert parts.telemetry.names() == ["shed"]
            assert node.chunks.items() >= before.items()
            assert not (before.keys() & await parts.holdings.known("n0"))

    run_virtually(run())


@pytest.mark.parametrize("seed", range(4))
def test_a_chunk_that_was_given_another_number_stays_when_the_one_of_that_number_comes(seed):
    async def run():
        made = world(1, SpreadRules(copies=1), seed)
        made.fleet.come("n0")
        async with made.running() as parts:
            await parts.telemetry.append("shed", b"both\n", text=True)
            old = dict(made.files.files)
            written = await chunks(parts, b"first", 12)
            await spread(parts)
        made.fleet.go("n0")
        # Its files and no book are put back: numbers go to other entries, nodes have the first.
        made.book, made.files.files = MemoryTelemetryBook(), old
        async with made.running() as parts:
            written |= await chunks(parts, b"second", 6)
            made.fleet.come("n0")
            await asyncio.sleep(60)
            assert set((await read_all(parts, "shed")).splitlines()) == written | {b"both"}
            kept = {held.chunk for held in parts.holdings.all()}
        # kill -9 before the file is gone that said its number was given out.
        made.files.files["shed", max(chunk.number for chunk in kept)] = b""
        made.fleet.go("n0")
        async with made.running() as parts:
            assert {held.chunk for held in parts.holdings.all()} == kept

    run_virtually(run())


async def chunks(parts, entry: bytes, count: int) -> set[bytes]:
    """Chunks of one entry each; the entries."""
    entries = {b"%d %s" % (number, entry) for number in range(count)}
    for one in sorted(entries):
        await parts.telemetry.append("shed", one + b"\n", text=True)
        await parts.telemetry.finish_chunk("shed")
    return entries
