"""Nodes that lose what they have while a shard is written to them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fakes.link_node import LinkNode
from tests.fakes.node_stores import served
from tests.fakes.node_works import Hub, running_hub
from zerostor.core.errors import ShardMissing, StoreUnavailable
from zerostor.stores.node import NodeStore

FIRST, REST = random.Random(3).randbytes(50_000), random.Random(4).randbytes(20_000)


async def come_back(hub: Hub, node: LinkNode, *, empty: bool) -> LinkNode:
    """It loses its power, and with `empty` its flash."""
    await node.leave()
    await hub.until(lambda: not hub.fleet.connected())
    again = await hub.node()
    if not empty:
        again.chunks |= node.chunks
    await again.join()
    await hub.until(lambda: hub.is_here("shed-1"))
    return again


@pytest.mark.parametrize("shown", [False, True], ids=["hidden", "shown"])
@pytest.mark.parametrize("how", ["wiped", "formatted", "replaced"])
async def test_a_node_that_is_emptied_while_a_shard_is_written_has_not_that_shard(
        tmp_path: Path, how: str, shown: bool) -> None:
    async with running_hub(tmp_path) as hub, served(hub, tmp_path):
        store, node = NodeStore("one", "shed-1", tmp_path / "shards.sock"), await hub.joined()
        writer = await store.create("k", None)
        await (writer.extend([FIRST]) if shown else writer.write(FIRST))
        assert node.chunks
        if how == "replaced":
            node = await come_back(hub, node, empty=True)
        else:
            await hub.fleet.wipe("shed-1", format_flash=how == "formatted")
        with pytest.raises(StoreUnavailable, match="lost what it had"):
            await writer.commit([REST])
        with pytest.raises(ShardMissing):
            await store.read("k", 0, memoryview(bytearray(10)))
        await store.close()


async def test_a_node_that_comes_back_with_all_it_had_goes_on_with_the_shard(
        tmp_path: Path) -> None:
    async with running_hub(tmp_path) as hub, served(hub, tmp_path):
        store, node = NodeStore("one", "shed-1", tmp_path / "shards.sock"), await hub.joined()
        writer = await store.create("k", None)
        await writer.write(FIRST)
        node = await come_back(hub, node, empty=False)
        await writer.commit([REST])
        into = bytearray(await store.size("k"))
        await store.read("k", 0, memoryview(into))
        assert into == FIRST + REST
        assert len(node.chunks) == 5
        await store.close()
