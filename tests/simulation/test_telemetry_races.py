"""Streams that are removed, made again, refused and looked after, all at the same time."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.telemetry_here import World, read_all
from tests.fakes.virtual_time import run_virtually
from tests.simulation.test_telemetry import LINE, come, fill, spread, spread_out, world
from zerostor.core.errors import BackendError, UnknownStream
from zerostor.core.spread import SpreadRules
from zerostor.engine.console_files import ConsoleFiles


def test_what_is_appended_while_the_stream_of_its_name_is_removed_stays():
    async def run():
        made = world()
        async with spread_out(made) as (parts, _):
            slow(made)
            removing = asyncio.ensure_future(parts.telemetry.remove("shed"))
            await asyncio.sleep(0)
            written = await fill(parts)
            await removing
            assert await read_all(parts, "shed") == written
        async with made.running() as parts:
            assert await read_all(parts, "shed") == written

    run_virtually(run())


def test_a_stream_whose_removal_failed_is_there_and_can_be_removed():
    async def run():
        made = world()
        async with made.running() as parts:
            written = await fill(parts)
            write, made.book.write = made.book.write, refuse
            with pytest.raises(BackendError):
                await parts.telemetry.remove("shed")
            assert await read_all(parts, "shed") == written
            made.book.write = write
            await parts.telemetry.append("shed", LINE, text=True)
            assert await read_all(parts, "shed") == written + LINE
            await parts.telemetry.remove("shed")
            with pytest.raises(UnknownStream):
                parts.telemetry.summary("shed")

    run_virtually(run())


async def refuse(_: object) -> None:
    raise BackendError("the disk is full")


def test_a_chunk_that_is_let_go_while_it_is_removed_does_not_come_back():
    async def run():
        made = world(2, SpreadRules(copies=2, nodes_only=True))
        come(made.fleet)
        async with made.running() as parts:
            await fill(parts)
            while parts.telemetry.summary("shed").waiting:
                await asyncio.sleep(0.1)
            slow(made)
            held = parts.holdings.of_stream("shed")[0]
            assert held.chunk.local
            await asyncio.gather(parts.telemetry.remove("shed"), parts.caring._let_go(held))
            assert not parts.holdings.of_stream("shed")
            assert not made.book.chunks

    run_virtually(run())


def slow(made: World) -> None:
    """Writing to the book takes as long as a flush."""
    write = made.book.write

    async def written(changes):
        await asyncio.sleep(0.01)
        await write(changes)

    made.book.write = written


def test_an_old_copy_of_the_book_has_no_chunk_of_a_node_written_over():
    async def run():
        made = world(2, SpreadRules(copies=2, nodes_only=True))
        async with spread_out(made) as (parts, _):
            old = dict(made.book.chunks), dict(made.book.copies)
            await parts.telemetry.append("shed", LINE * 9, text=True)
            await parts.telemetry.finish_chunk("shed")
            await spread(parts)
            await asyncio.sleep(300)
            assert parts.telemetry.summary("shed").local == 0
        there = {node.name: dict(node.chunks) for node in made.fleet.nodes.values()}
        made.book.chunks, made.book.copies = old
        async with made.running() as parts:
            await parts.telemetry.append("shed", b"another", text=True)
            await parts.telemetry.finish_chunk("shed")
            await spread(parts)
        for node in made.fleet.nodes.values():
            assert node.chunks.items() > there[node.name].items()

    run_virtually(run())


def test_a_stream_whose_folder_is_gone_is_read_from_nodes_and_goes_on():
    async def run():
        made = world(3)
        come(made.fleet)
        async with made.running() as parts:
            written = await fill(parts)
            await parts.telemetry.finish_chunk("shed")
            await spread(parts)
        made.files.made.clear()
        made.files.files.clear()
        for _ in range(2):
            async with made.running() as parts:
                await asyncio.sleep(60)
                assert await read_all(parts, "shed") == written
                assert parts.telemetry.summary("shed").text
                await parts.telemetry.append("shed", LINE, text=True)
                await parts.telemetry.finish_chunk("shed")
                written += LINE
                assert await read_all(parts, "shed") == written

    run_virtually(run())


def test_old_telemetry_of_one_stream_goes_however_much_another_one_has(monkeypatch):
    monkeypatch.setattr("zerostor.engine.caring.FORGET_AT_ONCE", 4)

    async def run():
        made = world(rules=SpreadRules(copies=2, keep=7200))
        async with made.running() as parts:
            await fill(parts, stream="old")
            await asyncio.sleep(7000)
            await fill(parts, stream="new")
        # As SQLite has them: by name.
        made.book.chunks = dict(sorted(made.book.chunks.items(), key=lambda one: one[1].stream))
        async with made.running() as parts:
            await asyncio.sleep(400)
            assert parts.telemetry.summary("old").chunks == 0
            assert parts.telemetry.summary("new").chunks == 6

    run_virtually(run())


def test_a_look_of_the_future_does_not_spare_a_copy_the_next_one():
    async def run():
        made = world(2, SpreadRules(copies=2, recheck=3600))
        async with spread_out(made) as (parts, _):
            copy = parts.holdings.of_stream("shed")[0].good()[0]
            ahead = parts.caring._clock.now() + 1e6
            await parts.holdings.write([copy._replace(verified=ahead)])
        async with made.running() as parts:
            await asyncio.sleep(8000)
            held = parts.holdings.of_stream("shed")[0]
            assert all(copy.verified < ahead for copy in held.good())

    run_virtually(run())


def test_a_file_of_the_console_that_a_crash_left_half_way_goes_to_nodes_at_the_next_start():
    async def run():
        made = world(2)
        come(made.fleet)
        async with made.running() as parts:
            # As a process leaves them that ends between the parts of a write.
            for version in (1, 2):
                await parts.telemetry.append(f"console.note.{version}", b"%d" % version, text=False)
        async with made.running() as parts:
            files = ConsoleFiles(parts)
            await files.settle()
            assert parts.telemetry.names() == ["console.note.2"]
            assert await files.read("note") == b"2"
            await spread(parts, "console.note.2")
            assert len(parts.holdings.of_stream("console.note.2")[0].good()) == 2

    run_virtually(run())


def test_a_write_on_the_console_that_fails_leaves_the_file_as_it_was_and_nothing_else():
    async def run():
        made = world(2)
        async with made.running() as parts:
            files = ConsoleFiles(parts)
            await files.write("note", b"before")
            made.files.full = True
            for name in ("note", "new"):
                with pytest.raises(BackendError):
                    await files.write(name, b"after")
            made.files.full = False
            assert parts.telemetry.names() == ["console.note.1"]
            assert await files.read("note") == b"before"
            await files.write("note", b"after")
            assert await files.read("note") == b"after"

    run_virtually(run())
