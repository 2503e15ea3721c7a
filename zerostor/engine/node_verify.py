"""Are the chunks of a node still what they were: asked of the node, and proven by reading."""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

from zerostor.core.errors import ChunkCorrupt, ChunkMissing
from zerostor.core.node_wire import NONCE_SIZE
from zerostor.core.nodes import ChunkId
from zerostor.node_ports import Fleet
from zerostor.ports import RandomBytes


class Verified(NamedTuple):
    """Of some chunks of a node. last: the id to go on behind, None at the end."""

    good: int
    bad: tuple[tuple[ChunkId, str], ...]
    last: ChunkId | None


async def verify(fleet: Fleet, random_bytes: RandomBytes, node: str, after: ChunkId,
                 limit: int) -> Verified:
    """Look at up to `limit` chunks behind `after`. Raises NodeAway, NodeFault.

    Each is read over the link, which compares it with the digest it was written with; then the node
    says the digest of it behind a nonce, so that what it reads is what it keeps.
    """
    good, last = 0, None
    bad: list[tuple[ChunkId, str]] = []
    async for chunk, _ in fleet.listing(node, after):
        if good + len(bad) >= limit:
            return Verified(good, tuple(bad), last)
        last = chunk
        nonce = random_bytes(NONCE_SIZE)
        try:
            content = await fleet.get(node, chunk)
            proof = await fleet.digest(node, chunk, "sha256", nonce)
        except ChunkMissing:
            continue  # it was deleted meanwhile
        except ChunkCorrupt as error:
            bad.append((chunk, str(error)))
            continue
        if hmac.compare_digest(proof, hashlib.sha256(nonce + content).digest()):
            good += 1
        else:
            bad.append((chunk, "its digest is not that of what it sends"))
    return Verified(good, tuple(bad), None)
