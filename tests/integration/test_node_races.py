"""Orders to the node hub that meet each other, and nodes that change while something is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.link_node import RIGHT, LinkNode, TurnedAway
from tests.fakes.node_works import Hub, running_hub
from zerostor.core.errors import BackendError, BadRequest
from zerostor.core.node_wire import Frame, Kind, Refused


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path) as made:
        yield made


async def test_keys_that_are_rotated_twice_at_once_lock_nobody_out(hub: Hub) -> None:
    node = await hub.joined()

    async def rotate() -> None:
        await hub.roll.rotate("shed-1")
        await hub.upkeep.hand_over_key("shed-1")

    await asyncio.gather(rotate(), rotate(), return_exceptions=True)
    assert node.new_key is not None
    node.key = node.new_key
    await node.join()
    await hub.until(lambda: hub.is_here("shed-1"))


async def test_of_two_that_add_one_name_at_once_one_is_told_that_it_is_taken(hub: Hub) -> None:
    one, other = await asyncio.gather(hub.roll.add("a"), hub.roll.add("a"), return_exceptions=True)
    assert hub.roll.require("a") == one
    assert isinstance(other, BadRequest)


async def test_a_node_that_is_removed_while_it_rotates_stays_removed(hub: Hub) -> None:
    await hub.roll.add("a")
    await asyncio.gather(hub.roll.remove("a"), hub.roll.rotate("a"), return_exceptions=True)
    assert hub.roll.find("a") is None
    assert list(await hub.book.nodes()) == []


@pytest.mark.parametrize("order", ["removed", "rotated"])
async def test_a_key_that_ends_while_its_node_shakes_hands(hub: Hub, order: str) -> None:
    node = await hub.node()

    async def say(kind: int, request: int = 0, payload: bytes = b"") -> None:
        if kind == Kind.AUTH and order == "removed":
            await hub.roll.remove("shed-1")
        elif kind == Kind.AUTH:
            rotated = await hub.roll.rotate("shed-1")
            await hub.roll.proven("shed-1", rotated.keys[1])
        await LinkNode.say(node, kind, request, payload)

    node.say = say  # type: ignore[method-assign]
    with pytest.raises(TurnedAway):
        await node.connect()
    await hub.event("refused", "shed-1", "while it dialed in")
    assert not hub.fleet.connected()


async def test_a_key_is_known_by_what_it_is_and_not_by_its_place(hub: Hub) -> None:
    """A handshake that began with two keys ends when the first is gone, and a third has come."""
    await hub.node()
    used = (await hub.roll.rotate("shed-1")).keys[1]
    assert await hub.roll.proven("shed-1", used)
    await hub.roll.rotate("shed-1")
    assert await hub.roll.proven("shed-1", used)
    assert used in hub.roll.require("shed-1").keys


@pytest.mark.parametrize("code", [Refused.IO, Refused.CORRUPT, Refused.NOSPACE])
async def test_a_chunk_that_cannot_be_deleted_holds_up_neither_the_others_nor_a_key(
        hub: Hub, code: Refused) -> None:
    node = await hub.node()
    node.chunks = {bytes((number,)) * 16: b"x" for number in range(100)}
    stuck = bytes((3,)) * 16

    async def delete(node: LinkNode, frame: Frame) -> None:
        await (node.err(frame, code) if frame.payload == stuck else RIGHT[Kind.DEL](node, frame))

    node.handlers[Kind.DEL] = delete
    await hub.roll.rotate("shed-1")
    await hub.book.drop("shed-1", [*node.chunks])
    await node.join()
    await hub.until(lambda: node.new_key is not None)
    assert [*node.chunks] == [stuck]
    assert await hub.book.dropped("shed-1", 9) == [stuck], "it is tried again"


async def test_a_node_with_a_key_younger_than_the_book_gets_another_one_by_hand(hub: Hub) -> None:
    await hub.node()
    old = hub.roll.require("shed-1")
    younger = bytes.fromhex((await hub.roll.rotate("shed-1")).keys[1].reveal())
    await (await LinkNode("shed-1", younger, hub.address).join()).leave()
    await hub.book.put(old)  # as the copy of the book has it
    await hub.roll.load()
    with pytest.raises(TurnedAway):
        await LinkNode("shed-1", younger, hub.address).join()
    by_hand = bytes.fromhex((await hub.roll.rotate("shed-1")).keys[-1].reveal())
    node = await LinkNode("shed-1", by_hand, hub.address).join()
    await hub.until(lambda: len(hub.roll.require("shed-1").keys) == 1)
    await node.leave()


async def test_what_a_node_is_owed_is_tried_again_while_it_is_here(
        hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerostor.engine.node_roll.RETRY_SECONDS", 0.05)
    node = await hub.node()
    node.chunks = {bytes(16): b"x"}
    await hub.book.drop("shed-1", [*node.chunks])
    dropped, failures = hub.book.dropped, 3

    async def failing(*asked: Any) -> Any:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise BackendError("the disk is broken here")
        return await dropped(*asked)

    monkeypatch.setattr(hub.book, "dropped", failing)
    await node.join()
    await hub.until(lambda: not node.chunks)
    assert failures < 0
