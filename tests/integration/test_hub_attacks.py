"""Hostile nodes and strangers at the hub: none of them ends it, costs bytes, or goes unnoticed."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from tests.fakes.link_node import RIGHT, Handler, LinkNode, TurnedAway, hello
from tests.fakes.node_works import Hub, running_hub
from zerostor.core import node_wire as wire
from zerostor.core.errors import BackendError, ChunkCorrupt, NodeAway, NodeFault, NodeFull
from zerostor.core.node_chunk import CHUNK_SIZE
from zerostor.core.node_wire import Frame, Kind, Opener, Refused, Sealer
from zerostor.nodes import exchange, fleet, link, session

CONTENT = os.urandom(CHUNK_SIZE)
CHUNK = b"c" * 16


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    """One whose honest node is as good at the end as it was before."""
    async with running_hub(tmp_path) as made:
        honest = await made.joined("honest")
        await made.fleet.put("honest", CHUNK, CONTENT)
        yield made
        assert await made.fleet.get("honest", CHUNK) == CONTENT
        assert honest.frames.count(Kind.READY) == 1


async def refused(hub: Hub, node: LinkNode, sentence: str, **fields: int) -> None:
    with pytest.raises(TurnedAway, match=sentence):
        await node.connect(**fields)


async def test_an_unknown_node(hub: Hub) -> None:
    await refused(hub, LinkNode("nobody", bytes(32), hub.address), "no such node")
    event = await hub.event("refused", "nobody")
    assert "no node of this name" in event.detail and "127.0.0.1" in event.detail


async def test_a_wrong_key(hub: Hub) -> None:
    await hub.roll.add("shed-1")
    await refused(hub, LinkNode("shed-1", bytes(32), hub.address), "no such node or key")
    assert "another key" in (await hub.event("refused", "shed-1")).detail


async def test_an_impostor_that_knows_the_hint(hub: Hub) -> None:
    node = await hub.node("shed-1")
    reader, writer = await asyncio.open_connection(*hub.address)
    writer.write(Sealer().seal(Kind.HELLO, 0, hello("shed-1", node.key, bytes(16))))
    await reader.readexactly(8 + 20 + 32)
    writer.write(Sealer().seal(Kind.AUTH, 0, bytes(32)))
    assert await reader.read() == b""
    assert "has not the key" in (await hub.event("refused", "shed-1")).detail
    assert "shed-1" not in hub.fleet.connected()
    writer.close()


async def test_a_replayed_session(hub: Hub) -> None:
    node = await hub.node("shed-1")
    sent: list[bytes] = []

    class Recorded(Sealer):
        def seal(self, kind: int, request: int = 0, payload: bytes = b"") -> bytes:
            sent.append(super().seal(kind, request, payload))
            return sent[-1]

    await node.connect()
    await node.leave()
    reader, writer = await asyncio.open_connection(*hub.address)
    original = await hub.node("shed-1")
    original.reader, original.writer = await asyncio.open_connection(*hub.address)
    original.sealer, original.opener = Recorded(), Opener()
    said = hello("shed-1", node.key, b"n" * 16)
    await original.say(Kind.HELLO, 0, said)
    challenge = await original.hear()
    keys = wire.link_keys(node.key, said, challenge.payload[:20])
    await original.say(Kind.AUTH, 0, keys.node_proof)
    original.sealer.begin(keys.to_hub)
    await original.say_stat()
    await hub.until(lambda: hub.is_here("shed-1"))
    await original.leave()
    await hub.until(lambda: not hub.is_here("shed-1"))
    writer.write(b"".join(sent))
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()
    assert "has not the key" in (await hub.event("refused", "shed-1")).detail


async def test_protocols_of_another_time(hub: Hub) -> None:
    node = await hub.node("shed-1")
    with pytest.raises(TurnedAway) as caught:
        await node.connect(lowest=2, highest=9)
    assert caught.value.args == (Refused.VERSION, "hub speaks EDN 1, you 2 to 9")
    assert "flash it anew" in (await hub.event("refused", "shed-1")).detail
    await node.connect(lowest=0, highest=3)


@pytest.mark.parametrize("sent", [
    b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n", b"SSH-2.0-OpenSSH_10.0\r\n",
    b"\x16\x03\x01" + bytes(99),
    Sealer().seal(Kind.HELLO, 0, b"EDN"), Sealer().seal(Kind.HELLO, 0, b"EDN\1\1\xffa"),
    Sealer().seal(Kind.HELLO, 0, b"EDN\1\1\1\xff" + bytes(27)),
    Sealer().seal(Kind.AUTH, 0, bytes(32)), Sealer().seal(Kind.PING), Sealer().seal(0xEE),
    b"\x01\x01\x00\x01\x00\x00\x00\x00",
    b"\x01\x00\xff\xff\x00\x00\x00\x00" + bytes(70_000)])
async def test_what_is_no_greeting(hub: Hub, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection(*hub.address)
    writer.write(sent)
    writer.write_eof()
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    await hub.event("refused")


@pytest.mark.parametrize("place", [0, 1, 2, 5, 8, 20, -1])
async def test_a_flipped_bit(hub: Hub, place: int) -> None:
    node = await hub.joined("shed-1")
    frame = bytearray(node.sealer.seal(Kind.STATR, 0, wire.STAT.pack(4096, 9, 9, *[0] * 7)))
    frame[place] ^= 1
    node.writer.write(bytes(frame))
    if place == 2:  # a longer frame: it is waited for until the rest comes
        node.writer.write(bytes(256))
    assert (await hub.event("left", "shed-1")).detail
    assert not hub.is_here("shed-1")


async def test_a_duplicated_frame(hub: Hub) -> None:
    node = await hub.joined("shed-1")
    frame = node.sealer.seal(Kind.PING)
    node.writer.write(frame + frame)
    assert "tag" in (await hub.event("left", "shed-1")).detail


async def test_an_oversized_frame(hub: Hub) -> None:
    node = await hub.joined("shed-1")
    node.writer.write(b"\x40\x00\xff\xff\x00\x00\x00\x00")
    assert "65535 bytes" in (await hub.event("left", "shed-1")).detail


async def test_a_slow_frame(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "FRAME_SECONDS", 0.5)
    node = await hub.joined("shed-1")
    for byte in node.sealer.seal(Kind.PING):
        node.writer.write(bytes((byte,)))
        await asyncio.sleep(0.1)
        if not hub.is_here("shed-1"):
            break
    assert "longer than 0.5 s" in (await hub.event("left", "shed-1")).detail


async def test_a_slow_greeting_and_a_silent_one(
        hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerostor.nodes.greeting.GREETING_SECONDS", 0.5)
    node = await hub.node("shed-1")
    writers = [(await asyncio.open_connection(*hub.address))[1] for _ in range(3)]
    for byte in Sealer().seal(Kind.HELLO, 0, hello("shed-1", node.key, bytes(16))):
        for writer in writers[:2]:
            writer.write(bytes((byte,)))
        await asyncio.sleep(0.02)
    assert "did not say who it is" in (await hub.event("refused")).detail
    for writer in writers:
        writer.close()


@pytest.fixture
async def liar(hub: Hub) -> LinkNode:
    return await hub.joined("liar")


async def spoiled(hub: Hub, call: Awaitable[object],
                  *raised: type[BackendError]) -> BackendError:
    with pytest.raises(raised or NodeFault) as caught:
        await call
    assert "honest" in hub.fleet.connected()
    return caught.value


async def test_one_that_acknowledges_and_stores_nothing(hub: Hub, liar: LinkNode) -> None:
    async def nothing(node: LinkNode, frame: Frame) -> None:
        await RIGHT[Kind.DATA](node, frame)
        node.chunks.pop(CHUNK, None)

    liar.handlers[Kind.DATA] = nothing
    error = await spoiled(hub, hub.fleet.put("liar", CHUNK, CONTENT))
    assert "said that it has a chunk, and has not" in str(error)
    assert CHUNK.hex() in (await hub.event("lost", "liar")).detail


async def test_one_that_says_done_at_once(hub: Hub, liar: LinkNode) -> None:
    async def done(node: LinkNode, frame: Frame) -> None:
        await node.say(Kind.DONE, frame.request, frame.payload[-32:])

    liar.handlers[Kind.PUT] = done
    await spoiled(hub, hub.fleet.put("liar", CHUNK, CONTENT))
    await hub.event("lost", "liar")


async def test_one_that_keeps_other_bytes(hub: Hub, liar: LinkNode) -> None:
    async def other(node: LinkNode, frame: Frame) -> None:
        await RIGHT[Kind.DATA](node, frame)
        if CHUNK in node.chunks:
            node.chunks[CHUNK] = b"x" + node.chunks[CHUNK][1:]

    liar.handlers[Kind.DATA] = other
    await spoiled(hub, hub.fleet.put("liar", CHUNK, CONTENT))
    assert "other bytes are there" in (await hub.event("corrupt", "liar")).detail


async def test_one_that_returns_other_bytes(hub: Hub, liar: LinkNode) -> None:
    await hub.fleet.put("liar", CHUNK, CONTENT)

    async def other(node: LinkNode, frame: Frame) -> None:
        await node.say(Kind.META, frame.request, wire.META.pack(5, bytes(32)))
        await node.say(Kind.DATA, frame.request, wire.OFFSET.pack(0) + b"wrong")
        await node.say(Kind.END, frame.request)

    liar.handlers[Kind.GET] = other
    await spoiled(hub, hub.fleet.get("liar", CHUNK), ChunkCorrupt)
    assert CHUNK.hex() in (await hub.event("corrupt", "liar")).detail


@pytest.mark.parametrize("answers", [
    [(Kind.META, b"")], [(Kind.OK, b"")], [(Kind.META, wire.META.pack(1 << 31, bytes(32)))],
    [(Kind.META, wire.META.pack(9, bytes(32))), (Kind.DATA, wire.OFFSET.pack(5) + b"x")],
    [(Kind.META, wire.META.pack(9, bytes(32))), (Kind.DATA, b"")],
    [(Kind.META, wire.META.pack(9, bytes(32))), (Kind.DATA, wire.OFFSET.pack(0) + bytes(10))],
    [(Kind.META, wire.META.pack(9, bytes(32)))] * 2])
async def test_answers_out_of_place(
        hub: Hub, liar: LinkNode, answers: list[tuple[Kind, bytes]]) -> None:
    async def wrong(node: LinkNode, frame: Frame) -> None:
        for kind, payload in answers:
            await node.say(kind, frame.request, payload)

    liar.handlers[Kind.GET] = wrong
    await spoiled(hub, hub.fleet.get("liar", CHUNK))
    await hub.event("fault", "liar")
    assert not hub.is_here("liar")


@pytest.mark.parametrize("offset", [0, 4055, 4057, 8152, 12_248, 2**32 - 1])
async def test_wrong_acknowledgements(hub: Hub, liar: LinkNode, offset: int) -> None:
    async def wrong(node: LinkNode, frame: Frame) -> None:
        await node.say(Kind.ACK, frame.request, wire.OFFSET.pack(offset))
        node.handlers[Kind.DATA] = wrong

    liar.handlers[Kind.DATA] = wrong
    await spoiled(hub, hub.fleet.put("liar", CHUNK, CONTENT))
    await hub.event("fault", "liar")


async def test_listings_that_never_end_or_go_back(hub: Hub, liar: LinkNode) -> None:
    async def back(node: LinkNode, frame: Frame) -> None:
        await node.say(Kind.ITEMS, frame.request, wire.ITEM.pack(b"b" * 16, 1)
                       + wire.ITEM.pack(b"a" * 16, 1))

    async def all_of_it() -> None:
        async for _ in hub.fleet.listing("liar"):
            pass

    liar.handlers[Kind.LIST] = back
    await spoiled(hub, all_of_it())
    await hub.event("fault", "liar")


async def test_one_that_claims_space_it_has_not(hub: Hub, liar: LinkNode) -> None:
    async def no_room(node: LinkNode, frame: Frame) -> None:
        await node.err(frame, Refused.NOSPACE, "flash is full")

    liar.handlers[Kind.PUT] = no_room
    await spoiled(hub, hub.fleet.put("liar", CHUNK, CONTENT), NodeFull)
    assert "claimed 504 free blocks" in (await hub.event("fault", "liar")).detail
    assert hub.fleet.connected()["liar"].stat.free == 0
    await liar.say_stat(free=600)
    await hub.event("fault", "liar", "claims 600 free of 512")
    await hub.until(lambda: not hub.is_here("liar"))


async def test_one_that_never_answers(
        hub: Hub, liar: LinkNode, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(node: LinkNode, frame: Frame) -> None:
        """Not a word."""

    monkeypatch.setattr(exchange.Exchange.answer, "__kwdefaults__", {"seconds": 0.3})
    liar.handlers[Kind.DEL] = silent
    await spoiled(hub, hub.fleet.delete("liar", CHUNK), NodeAway)
    assert "no answer" in (await hub.event("left", "liar")).detail


async def begin(node: LinkNode, frame: Frame) -> None:
    """The first frame of an answer to GET; nothing to DATA."""
    if frame.kind == Kind.GET:
        await node.say(Kind.META, frame.request, wire.META.pack(CHUNK_SIZE, bytes(32)))


async def drip(node: LinkNode, frame: Frame) -> None:
    """A byte now and then, each in time."""
    await begin(node, frame)
    getting = frame.kind == Kind.GET
    node.handlers[Kind.DATA] = begin  # what comes after the first
    with contextlib.suppress(ConnectionError):
        for number in range(4000):
            await node.say(Kind.DATA if getting else Kind.ACK, frame.request,
                           wire.OFFSET.pack(number + (not getting)) + b"x" * getting)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("evil", [begin, drip])
@pytest.mark.parametrize("kind", [Kind.GET, Kind.DATA])
async def test_one_that_hangs_in_the_middle_of_a_chunk_holds_up_nobody_else(
        hub: Hub, liar: LinkNode, monkeypatch: pytest.MonkeyPatch, kind: Kind, evil: Handler
        ) -> None:
    if evil is begin:
        monkeypatch.setattr(exchange.Exchange.answer, "__kwdefaults__", {"seconds": 0.5})
    else:
        monkeypatch.setattr(session.Session.in_turn, "__defaults__", (0.5,))
    liar.handlers[kind] = evil
    calls = [asyncio.ensure_future(call) for call in (
        hub.fleet.get("liar", CHUNK) if kind == Kind.GET else
        hub.fleet.put("liar", CHUNK, CONTENT), hub.fleet.digest("liar", CHUNK, "md5"))]
    while not calls[0].done():
        assert await hub.fleet.get("honest", CHUNK) == CONTENT
    for call in calls:
        await spoiled(hub, asyncio.wait_for(call, 30), NodeAway)
    await hub.event("left", "liar", "no answer" if evil is begin else "longer than")


@pytest.mark.parametrize("claims", [
    {"blocks": 2**32 - 1, "free": 2**32 - 1}, {"blocks": 1 << 18, "block": 4097},
    {"block": 0}, {"block": 2**32 - 1}, {"free": 513}])
async def test_a_flash_that_cannot_be(hub: Hub, liar: LinkNode, claims: dict[str, int]) -> None:
    await liar.say_stat(**claims)
    await hub.event("fault", "liar", "claims")
    await hub.until(lambda: not hub.is_here("liar"))


async def test_numbers_that_are_absurd_and_do_no_harm(hub: Hub, liar: LinkNode) -> None:
    most = 2**32 - 1
    await liar.say_stat(chunks=most, heap=most, low=most, uptime=most, boots=most, writes=most,
                        flags=255)
    await hub.until(lambda: hub.fleet.connected()["liar"].stat.writes == most)
    await hub.fleet.put("liar", CHUNK, CONTENT)


async def test_one_that_talks_all_the_time(hub: Hub, liar: LinkNode) -> None:
    with contextlib.suppress(ConnectionError):
        for _ in range(200):
            await liar.say(Kind.PING)
    assert "nobody asked for" in (await hub.event("fault", "liar")).detail


@pytest.mark.parametrize("kind", [Kind.DONE, Kind.STATR, Kind.HELLO, Kind.READY, Kind.PUT, 0xEE])
async def test_answers_to_what_nobody_asked(hub: Hub, liar: LinkNode, kind: int) -> None:
    await liar.say(kind, 77, bytes(37))
    await hub.event("fault", "liar")
    assert not hub.is_here("liar")


async def test_one_that_takes_nothing(
        hub: Hub, liar: LinkNode, monkeypatch: pytest.MonkeyPatch) -> None:
    assert liar.serving is not None
    liar.serving.cancel()
    liar.writer.transport.pause_reading()  # type: ignore[attr-defined]
    monkeypatch.setattr(exchange, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(exchange.Exchange.answer, "__kwdefaults__", {"seconds": 0.5})
    await spoiled(hub, hub.fleet.delete("liar", CHUNK), NodeAway)
    assert "no answer" in (await hub.event("left", "liar")).detail


async def test_one_that_reconnects_all_the_time(hub: Hub) -> None:
    let_in = refused_at = 0
    for _ in range(60):
        node = await hub.node("shed-1")
        try:
            await node.connect()
            let_in += 1
        except (TurnedAway, ConnectionError):
            refused_at += 1
        else:
            await node.leave()
    assert let_in <= 20 and refused_at >= 40
    assert "comes back too often" in (await hub.event("fault", "shed-1")).detail
    assert len(await hub.book.events("shed-1", 1000)) < 60, "a flood is told of now and then"
    await (await hub.node("other")).connect()  # of the same address


async def test_strangers_that_flood_keep_nobody_out(hub: Hub) -> None:
    """Not even a node of their own address: a whole house has one."""
    for _ in range(60):
        with contextlib.suppress(TurnedAway, ConnectionError):
            await LinkNode("nobody", bytes(32), hub.address).connect()
    await hub.joined("other")
    assert len(await hub.book.events("nobody", 1000)) < 30


async def test_strangers_that_say_nothing_keep_nobody_out(tmp_path: Path) -> None:
    async with running_hub(tmp_path, connections=200, address_connections=100) as hub:
        here = [await hub.joined(f"n{number}") for number in range(3)]
        silent = [await asyncio.open_connection(*hub.address) for _ in range(150)]
        await hub.joined("late")
        await hub.event("refused", text="gave way")
        assert {node.name for node in here} < set(hub.fleet.connected())
        for _, writer in silent:
            writer.close()
        await hub.until(lambda: hub.listener._admission._open.total() == len(here) + 1)


async def test_two_nodes_with_one_name(hub: Hub) -> None:
    first = await hub.joined("twin")
    second = await hub.node("twin")
    await second.join()
    await hub.until(lambda: hub.fleet.connected()["twin"].address.endswith(
        str(second.writer.get_extra_info("sockname")[1])))
    assert "took the place of" in (await hub.event("replaced", "twin")).detail
    others = [await hub.node("twin") for _ in range(fleet.MASTERS_MAX)]
    for other in others:
        with contextlib.suppress(TurnedAway):
            await other.join()
    await hub.until(lambda: hub.is_here("twin"))
    await hub.event("replaced", "twin", "two nodes have this name")
    for node in (first, second, *others):
        await node.leave()


async def test_links_that_come_and_go_leave_nothing_behind(tmp_path: Path) -> None:
    def left() -> tuple[int, int, int]:
        return (len(os.listdir("/proc/self/fd")), len(hub.listener._visits),
                hub.listener._admission._open.total())

    async with running_hub(tmp_path) as hub:
        first = await hub.joined("n0")
        await first.leave()
        await hub.until(lambda: left()[1:] == (0, 0))
        before = left()
        for number in range(300):
            node = await (await hub.node(f"n{number % 60}")).join()
            if number % 3:
                await node.leave()
            else:
                node.writer.transport.abort()
        await hub.until(lambda: not hub.fleet.connected() and left() == before)


async def test_connections_are_bounded(tmp_path: Path) -> None:
    async with running_hub(tmp_path, connections=5, address_connections=3) as hub:
        nodes = [await hub.joined(f"n{number}") for number in range(3)]
        reader, writer = await asyncio.open_connection(*hub.address)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert "address_connections" in (await hub.event("refused")).detail
        for node in nodes:
            await node.leave()
        await hub.until(lambda: not hub.listener._admission._open)
        await hub.joined()
