"""Telemetry over nodes that come and go, in virtual time: one seed is one run."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator

import pytest

from tests.fakes.simulated_fleet import SimulatedFleet
from tests.fakes.telemetry_here import MemoryTelemetryBook, World, read_all
from tests.fakes.virtual_time import run_virtually
from zerostor.core.errors import BackendError, ObjectUnreadable, UnknownStream
from zerostor.core.nodes import NodeEventKind
from zerostor.core.spread import LineKind, SpreadRules
from zerostor.engine.telemetry_parts import TelemetryParts

LINE = b"t=20.5 h=41 p=1013\n"
RULES = SpreadRules(copies=2)


def world(nodes: int = 6, rules: SpreadRules = RULES, seed: int = 1) -> World:
    made = World(seed, rules)
    for number in range(nodes):
        made.fleet.add(f"n{number}", owner=f"o{number % 4}", site=f"s{number % 3}")
    return made


def come(fleet: SimulatedFleet) -> None:
    for name in fleet.nodes:
        fleet.come(name)


async def fill(parts, count: int = 850, stream: str = "shed") -> bytes:
    written = b""
    for number in range(count):
        entry = b"%d %s" % (number, LINE)
        await parts.telemetry.append(stream, entry, text=True)
        written += entry
    return written


async def spread(parts, stream: str = "shed", seconds: float = 4000) -> None:
    """Wait until each chunk has its copies."""
    async with asyncio.timeout(seconds):
        while parts.telemetry.summary(stream).waiting:
            await asyncio.sleep(1)


@contextlib.asynccontextmanager
async def spread_out(made: World) -> AsyncIterator[tuple[TelemetryParts, bytes]]:
    """All nodes are there, and have the six chunks of a stream; what is in it."""
    come(made.fleet)
    async with made.running() as parts:
        written = await fill(parts)
        await spread(parts)
        yield parts, written


async def spread_and_stopped(made: World) -> bytes:
    """As `spread_out`, of a hub that does not run any more."""
    async with spread_out(made) as (_, written):
        return written


def test_chunks_get_their_copies_on_different_owners_and_are_read_from_nodes():
    async def run():
        made = world()
        async with spread_out(made) as (parts, written):
            chunks = parts.holdings.of_stream("shed")
            assert len(chunks) == 6
            for held in chunks:
                owners = {copy.owner for copy in held.good()}
                assert len(owners) == 2
                for copy in held.good():
                    assert made.fleet.nodes[copy.node].chunks[held.chunk.id]
            # All but what grows comes from nodes: the local files are not even there.
            for number in range(len(chunks)):
                del made.files.files["shed", number]
            assert await read_all(parts, "shed") == written
            kinds = [line.kind for line in made.book.ledger]
            assert kinds.count(LineKind.STORED) == 12
            assert sum(line.tokens for line in made.book.ledger) == 12

    run_virtually(run())


def test_nothing_is_lost_while_no_node_is_there_and_it_goes_out_when_one_comes():
    async def run():
        made = world()
        async with made.running() as parts:
            written = await fill(parts)
            await asyncio.sleep(3600)
            assert parts.telemetry.summary("shed").waiting == 6
            assert await read_all(parts, "shed") == written
            come(made.fleet)
            await spread(parts, seconds=60)

    run_virtually(run())


def test_a_node_that_stays_away_is_replaced_and_one_that_comes_back_is_trimmed():
    async def run():
        made = world()
        async with spread_out(made) as (parts, written):
            had = dict(parts.holdings.on_node("n1"))
            assert had
            made.fleet.go("n1")
            await asyncio.sleep(RULES.grace - 30)
            assert parts.telemetry.summary("shed").waiting == 0
            assert all(len(held.copies) == 2 for held in parts.holdings.all())
            await asyncio.sleep(120)
            assert parts.telemetry.summary("shed").waiting == 0
            assert all(sum(copy.node != "n1" for copy in held.good()) == 2
                       for held in parts.holdings.all())
            made.fleet.come("n1")
            await asyncio.sleep(300)
            assert all(len(held.copies) == 2 for held in parts.holdings.all())
            assert sum(len(node.chunks) for node in made.fleet.nodes.values()) == 12
            assert not [line for line in made.book.ledger if line.kind is LineKind.LOST]
            assert [line for line in made.book.ledger if line.kind is LineKind.RECOVERED]
            assert await read_all(parts, "shed") == written

    run_virtually(run())


def test_the_end_of_the_grace_period_is_noticed_at_once():
    async def run():
        made = world(rules=SpreadRules(copies=2, grace=304.0))
        async with spread_out(made) as (parts, _):
            made.fleet.go("n1")
            await asyncio.sleep(306)
            assert all(sum(copy.node != "n1" for copy in held.good()) == 2
                       for held in parts.holdings.all())

    run_virtually(run())


def test_full_chunks_before_one_that_cannot_be_read_go_out():
    async def run():
        made = world()
        come(made.fleet)
        async with made.running() as parts:
            read = made.files.read

            async def broken(stream: str, number: int) -> bytes:
                if number == 2:
                    raise BackendError("the disk is broken here")
                return await read(stream, number)

            made.files.read = broken
            # One entry fills several chunks, which share a commit.
            await parts.telemetry.append("shed", bytes(30_000), text=True)
            await spread(parts)
            assert parts.telemetry.summary("shed").chunks == 2
            made.files.read = read
            await parts.telemetry.append("shed", b"more", text=True)
            await spread(parts)
            assert parts.telemetry.summary("shed").chunks == 5

    run_virtually(run())


@pytest.mark.parametrize("fault", ["keeps_nothing", "other_bytes"])
def test_a_node_that_lies_is_caught_and_pays(fault):
    async def run():
        made = world()
        come(made.fleet)
        liar = made.fleet.nodes["n2"]
        async with made.running() as parts:
            if fault == "keeps_nothing":
                liar.keeps_nothing = True
            written = await fill(parts)
            await spread(parts)
            liar.other_bytes = True
            for number in range(6):
                del made.files.files["shed", number]
            for _ in range(20):  # whichever copy is asked first
                assert await read_all(parts, "shed") == written
            assert not [copy for copy in parts.holdings.copies_held() if copy.node == "n2"]
            told = {event.kind for event in made.events if event.node == "n2"}
            assert told & {NodeEventKind.FAULT, NodeEventKind.CORRUPT}
            assert sum(line.tokens for line in made.book.ledger if line.node == "n2") <= 0
            assert parts.attendance.contender("n2").weight < 1

    run_virtually(run())


def test_digests_that_are_remembered_do_not_pass_for_chunks():
    async def run():
        made = world(rules=SpreadRules(copies=2, recheck=3600, nodes_only=True))
        async with spread_out(made) as (parts, written):
            await asyncio.sleep(600)
            liar = max(made.fleet.nodes.values(), key=lambda node: len(node.chunks))
            liar.tells_old_digests = True
            liar.chunks.clear()
            await asyncio.sleep(86_400)
            assert not [copy for copy in parts.holdings.copies_held() if copy.node == liar.name]
            assert await read_all(parts, "shed") == written

    run_virtually(run())


def test_one_that_hangs_delays_no_other_chunk_and_no_reader():
    async def run():
        made = world()
        async with spread_out(made) as (parts, written):
            loop = asyncio.get_running_loop()
            made.fleet.nodes["n1"].hangs = True
            for number in range(6):
                del made.files.files["shed", number]
            begun = loop.time()
            assert await read_all(parts, "shed") == written
            assert loop.time() - begun < 6
            await fill(parts, stream="yard")
            await asyncio.sleep(10)
            waiting = [held for held in parts.holdings.of_stream("yard") if
                       parts.spreading.short(held) + len(held.placing) > 0]
            assert all("n1" in held.placing for held in waiting)
            await asyncio.sleep(300)
            assert parts.telemetry.summary("yard").waiting == 0
            assert NodeEventKind.FAULT in {e.kind for e in made.events if e.node == "n1"}

    run_virtually(run())


def test_full_nodes_get_no_more_and_boasts_are_not_believed():
    async def run():
        made = World(1, RULES)
        for name in ("a", "b", "c"):
            made.fleet.add(name, total=6)
        made.fleet.nodes["a"].boast = True
        come(made.fleet)
        async with made.running() as parts:
            await fill(parts, 1500)
            await asyncio.sleep(600)
            # 6 blocks are three chunks of 2: 9 copies in all.
            assert sum(len(node.chunks) for node in made.fleet.nodes.values()) == 9
            assert NodeEventKind.FULL in {event.kind for event in made.events}
            assert {e.node for e in made.events if e.kind is NodeEventKind.FULL} == {"a"}
            made.fleet.add("d")
            made.fleet.add("e")
            made.fleet.come("d")
            made.fleet.come("e")
            await spread(parts, seconds=120)

    run_virtually(run())


def test_wear_has_a_budget_a_day():
    async def run():
        made = World(1, RULES._replace(rewrites=0.1))
        for name in ("a", "b"):
            made.fleet.add(name, total=100)
        come(made.fleet)
        async with made.running() as parts:
            await fill(parts, 1500)
            await asyncio.sleep(3000)
            assert parts.telemetry.summary("shed").waiting > 0
            before = [len(node.chunks) for node in made.fleet.nodes.values()]
            assert before == [4, 4]
            await asyncio.sleep(86_400)
            assert [len(node.chunks) for node in made.fleet.nodes.values()] == [8, 8]

    run_virtually(run())


def test_a_wiped_node_pays_only_if_nobody_told_it_to():
    async def run():
        made = world(4)
        made.fleet.roster["n0"] = made.fleet.roster["n0"].__class__(
            "n0", "o0", "s0", (), made.fleet.roster["n0"].update_key, 0.0, True)
        async with spread_out(made) as (parts, written):
            assert parts.holdings.on_node("n0") and parts.holdings.on_node("n1")
            for name in ("n0", "n1"):
                made.fleet.go(name)
                await asyncio.sleep(5)
                made.fleet.come(name, wiped=True)
                await asyncio.sleep(5)
                await spread(parts)
            lost = {line.node for line in made.book.ledger if line.kind is LineKind.LOST}
            assert lost == {"n1"}
            await made.fleet.wipe("n2")
            await asyncio.sleep(5)
            await spread(parts)
            lost = {line.node for line in made.book.ledger if line.kind is LineKind.LOST}
            assert lost == {"n1"}
            assert await read_all(parts, "shed") == written

    run_virtually(run())


def test_what_the_book_does_not_know_stays_and_what_was_dropped_goes():
    async def run():
        made = world(3)
        async with spread_out(made) as (parts, _):
            node = made.fleet.nodes["n0"]
            stranger = bytes(16)
            node.chunks[stranger] = node.digests[stranger] = b"of another hub"
            made.fleet.go("n0")
            await asyncio.sleep(1)
            await parts.telemetry.remove("shed")
            with pytest.raises(UnknownStream):
                await read_all(parts, "shed")
            made.fleet.come("n0")
            await asyncio.sleep(60)
            assert list(node.chunks) == [stranger]
            assert stranger not in await parts.holdings.known("n0")
            assert not made.fleet.nodes["n1"].chunks
            assert not made.book.copies and not made.files.files

    run_virtually(run())


def test_local_copies_go_only_when_nodes_have_enough_and_old_telemetry_goes():
    async def run():
        rules = SpreadRules(copies=2, nodes_only=True, keep=7200)
        made = world(2, rules)
        made.fleet.come("n0")
        async with made.running() as parts:
            written = await fill(parts)
            await asyncio.sleep(600)
            assert parts.telemetry.summary("shed").local == 6
            made.fleet.come("n1")
            await asyncio.sleep(200)
            assert parts.telemetry.summary("shed").local == 0
            assert set(made.files.files) == {("shed", 6)}
            assert await read_all(parts, "shed") == written
            for node in made.fleet.nodes.values():
                made.fleet.go(node.name)
            with pytest.raises(ObjectUnreadable):
                await read_all(parts, "shed")
            come(made.fleet)
            await asyncio.sleep(7200)
            assert parts.telemetry.summary("shed").chunks == 0
            assert not made.fleet.nodes["n0"].chunks
            assert written.endswith(await read_all(parts, "shed"))

    run_virtually(run())


def test_a_full_disk_refuses_and_what_was_taken_stays():
    async def run():
        made = world()
        async with made.running() as parts:
            written = await fill(parts, 200)
            made.files.full = True
            with pytest.raises(BackendError):
                await fill(parts, 1)
            made.files.full = False
            written += await fill(parts, 200)
            assert await read_all(parts, "shed") == written

    run_virtually(run())


def test_times_choose_what_is_read():
    async def run():
        made = world()
        come(made.fleet)
        async with made.running() as parts:
            entries = []
            for number in range(400):
                entry = b"%d %s" % (number, LINE)
                entries.append(((await parts.telemetry.append("shed", entry, text=True)).at, entry))
                await asyncio.sleep(1)
            begin, end = entries[100][0], entries[300][0]
            wanted = b"".join(entry for at, entry in entries if begin <= at < end)
            assert await read_all(parts, "shed", begin, end) == wanted
            assert await read_all(parts, "shed", end) == b"".join(
                entry for at, entry in entries if at >= end)

    run_virtually(run())


def test_a_restart_goes_on_where_the_files_end():
    async def run():
        made = world()
        come(made.fleet)
        async with made.running() as parts:
            written = await fill(parts, 400)
            await parts.telemetry.settle()
        # Of an entry that spans chunks the end never came to the disk, and of the last piece half.
        number = max(number for _, number in made.files.files)
        torn = made.files.files["shed", number]
        async with made.running() as parts:
            await parts.telemetry.append("shed", bytes(12_000), text=True)
            await parts.telemetry.settle()
        last = max(number for _, number in made.files.files)
        assert last > number
        for chunk in [*made.book.chunks.values()]:
            if chunk.number >= number:
                del made.book.chunks[chunk.id]
                for key in [key for key in made.book.copies if key[0] == chunk.id]:
                    del made.book.copies[key]
        made.files.files["shed", last] = made.files.files["shed", last][:-7]
        for node in made.fleet.nodes.values():
            node.chunks = {chunk: content for chunk, content in node.chunks.items()
                           if chunk in made.book.chunks}
        async with made.running() as parts:
            assert await read_all(parts, "shed") == written
            assert made.files.files["shed", number] == torn
            written += await fill(parts, 400)
            await spread(parts)
            assert await read_all(parts, "shed") == written

    run_virtually(run())


def test_rot_is_found_in_the_background_and_replaced():
    async def run():
        made = world(rules=SpreadRules(copies=2, recheck=3600))
        async with spread_out(made) as (parts, _):
            node = made.fleet.nodes["n3"]
            for chunk in node.chunks:
                node.rot(chunk, made.random)
            rotten = len(node.chunks)
            assert rotten
            await asyncio.sleep(3 * 3600)
            assert sum(event.kind is NodeEventKind.CORRUPT for event in made.events) == rotten
            for held in parts.holdings.all():
                assert len(held.good()) == 2
                for copy in held.good():
                    content = made.fleet.nodes[copy.node].chunks[held.chunk.id]
                    assert hashlib.sha256(content).digest() == held.chunk.sha256

    run_virtually(run())


def test_a_node_with_400_chunks_is_replaced_at_the_speed_of_the_flashes():
    async def run():
        made = World(3, SpreadRules(copies=2, grace=60, rewrites=100))
        made.fleet.add("old", total=4096)
        for number in range(2):
            made.fleet.add(f"n{number}", total=4096)
        come(made.fleet)
        async with made.running() as parts:
            while len(parts.holdings.on_node("old")) < 400:
                for _ in range(20):
                    await parts.telemetry.append("blobs", bytes(16_000), text=False)
                await asyncio.sleep(30)
            await spread(parts, "blobs")
            lost = len(parts.holdings.on_node("old"))
            for number in range(2, 6):
                made.fleet.add(f"n{number}", total=4096)
                made.fleet.come(f"n{number}")
            await asyncio.sleep(10)
            loop = asyncio.get_running_loop()
            made.fleet.go("old")
            await asyncio.sleep(made.rules.grace - 1)
            while not parts.telemetry.summary("blobs").waiting:
                await asyncio.sleep(0.1)
            begun = loop.time()
            waits = []
            while parts.telemetry.summary("blobs").waiting:
                before = loop.time()
                await parts.telemetry.append("shed", LINE, text=True)
                waits.append(loop.time() - before)
                await asyncio.sleep(1)
            # Those of n0 and n1 that do not have it already, and the four new ones.
            fastest = lost * 16_328 / (6 * 60_000)
            assert fastest <= loop.time() - begun < 2 * fastest
            assert max(waits) < 0.1

    run_virtually(run())


def test_the_local_copy_stays_while_a_node_with_a_copy_is_away():
    async def run():
        made = world(2, SpreadRules(copies=2, nodes_only=True))
        come(made.fleet)
        async with made.running() as parts:
            await fill(parts)
            while parts.telemetry.summary("shed").waiting:
                await asyncio.sleep(0.1)
            made.fleet.go("n1")
            await asyncio.sleep(100)
            assert parts.telemetry.summary("shed").local == 6
            made.fleet.come("n1")
            await asyncio.sleep(400)
            assert parts.telemetry.summary("shed").local == 0

    run_virtually(run())


def test_a_chunk_waits_for_another_owner_that_is_busy():
    async def run():
        made = World(1, RULES)
        for name, owner in (("a1", "anna"), ("a2", "anna"), ("b", "bert")):
            made.fleet.add(name, owner=owner)
        made.fleet.nodes["b"].slow = 20
        come(made.fleet)
        async with made.running() as parts:
            await asyncio.sleep(10)  # until all three are known
            await fill(parts)
            await spread(parts)
            assert len(parts.holdings.on_node("b")) == 6

    run_virtually(run())


def test_a_lost_book_is_made_again_from_files_and_nodes():
    async def run():
        made = world()
        written = await spread_and_stopped(made)
        before = {name: dict(node.chunks) for name, node in made.fleet.nodes.items()}
        worn = sum(node.written for node in made.fleet.nodes.values())
        made.book = MemoryTelemetryBook()
        async with made.running() as parts:
            assert await read_all(parts, "shed") == written
            await spread(parts)
            await asyncio.sleep(60)
            assert all(len(held.good()) >= 2 for held in parts.holdings.all())
            assert len(made.book.chunks) == 6
        # A node that was compared before all others came may have got a chunk that another has.
        again = sum(node.written for node in made.fleet.nodes.values()) - worn
        assert again <= worn / 2
        for name, chunks in before.items():
            for chunk, content in chunks.items():
                assert made.fleet.nodes[name].chunks.get(chunk, content) == content

    run_virtually(run())
