"""Are the chunks of a node still what they were: read, proven, and held against the books."""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

from zerostor.core.errors import ChunkCorrupt, ChunkMissing
from zerostor.core.node_wire import NONCE_SIZE
from zerostor.core.nodes import ChunkId, NodeEventKind
from zerostor.engine.node_census import Census
from zerostor.node_ports import Fleet, Tell
from zerostor.ports import RandomBytes


class Verified(NamedTuple):
    """Of some chunks of a node. last: the id to go on behind, None at the end."""

    good: int
    bad: tuple[tuple[ChunkId, str], ...]
    last: ChunkId | None


class Verifier:
    """Looks at the chunks of nodes. census: knows what they should be."""

    def __init__(self, fleet: Fleet, census: Census, random_bytes: RandomBytes, tell: Tell) -> None:
        self._fleet = fleet
        self._census = census
        self._random = random_bytes
        self._tell = tell

    async def verify(self, node: str, after: ChunkId, limit: int) -> Verified:
        """Look at up to `limit` chunks behind `after`. Raises NodeAway, NodeFault, BackendError.

        What no book knows is good if the node sends what it was given and keeps what it sends.
        """
        good, last = 0, None
        bad: list[tuple[ChunkId, str]] = []
        digests = await self._census.digests(node)
        async for chunk, _ in self._fleet.listing(node, after):
            if good + len(bad) >= limit:
                return Verified(good, tuple(bad), last)
            last = chunk
            try:
                wrong = await self._wrong(node, chunk, digests.get(chunk, b""))
            except ChunkMissing:
                continue  # it was deleted meanwhile
            except ChunkCorrupt as error:
                bad.append((chunk, str(error)))
                continue
            if wrong:
                self._tell(NodeEventKind.CORRUPT, node, f"chunk {chunk.hex()}: {wrong}")
                bad.append((chunk, wrong))
            else:
                good += 1
        return Verified(good, tuple(bad), None)

    async def _wrong(self, node: str, chunk: ChunkId, known: bytes) -> str:
        """It is read over the link, which compares it with the digest that the node has of it; and
        the node says the digest of it behind a nonce, so that what it sends is what it keeps.
        """
        nonce = self._random(NONCE_SIZE)
        content = await self._fleet.get(node, chunk)
        proof = await self._fleet.digest(node, chunk, "sha256", nonce)
        if not hmac.compare_digest(proof, hashlib.sha256(nonce + content).digest()):
            return "its digest is not that of what it sends"
        if not hashlib.sha256(content).digest().startswith(known):
            return "it is whole, and not what was written there"
        return ""
