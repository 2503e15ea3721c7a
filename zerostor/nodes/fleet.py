"""Fleet: the nodes that are connected, by their sessions."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial

from zerostor.core.errors import ChunkCorrupt, ChunkMissing, NodeAway, NodeFault, NodeFull
from zerostor.core.node_chunk import FILE_HEADER, blocks
from zerostor.core.node_wire import NONCE_SIZE, PAGE, Flag, Kind, masked
from zerostor.core.nodes import ChunkId, NodeEvent, NodeEventKind, NodeState
from zerostor.nodes import requests
from zerostor.nodes.exchange import LONG_SECONDS
from zerostor.nodes.session import Session
from zerostor.nodes.telling import Teller
from zerostor.ports import RandomBytes

MASTERS_MAX, MASTERS_SECONDS = 3, 120.0
"""How often one node may be replaced by another of its name before we say that there are two."""


class _States(Mapping[str, NodeState]):
    """By name. Made when looked at: most who ask want one of hundreds."""

    def __init__(self, sessions: Mapping[str, Session]) -> None:
        self._sessions = sessions

    def __getitem__(self, name: str) -> NodeState:
        return self._sessions[name].state

    def __contains__(self, name: object) -> bool:
        return name in self._sessions

    def __iter__(self) -> Iterator[str]:
        return iter(self._sessions)

    def __len__(self) -> int:
        return len(self._sessions)


class ConnectedFleet:
    """Sessions join and leave; see node_ports.Fleet for what can be asked of them.

    written: called with node and size of each chunk that was written.
    """

    def __init__(self, teller: Teller, random_bytes: RandomBytes, now: Callable[[], float],
                 written: Callable[[str, int], None] = lambda _node, _size: None) -> None:
        self._teller = teller
        self._random = random_bytes
        self._now = now
        self._written = written
        self._sessions: dict[str, Session] = {}
        self._replaced: dict[str, list[float]] = {}

    def connected(self) -> Mapping[str, NodeState]:
        """See node_ports.Fleet, as for all methods."""
        return _States(self._sessions)

    def may_replace(self, name: str) -> bool:
        """Whether one that comes under the name of a node that is here takes its place.

        The newer one is most often the same device after a restart. Two that go on replacing each
        other are two devices with one name: then the one that is here stays for a while.
        """
        if name not in self._sessions:
            return True
        now = self._now()
        recent = [at for at in self._replaced.get(name, ()) if at <= now < at + MASTERS_SECONDS]
        if len(recent) >= MASTERS_MAX:
            self._teller.tell(NodeEventKind.REPLACED, name, "two nodes have this name and key, or"
                              " one loses its link all the time: the newer one has to wait")
            return False
        self._replaced[name] = [*recent, now]
        return True

    def join(self, session: Session) -> None:
        """It is here. One of its name that was here before ends."""
        old = self._sessions.get(session.name)
        self._sessions[session.name] = session
        if old is not None:
            self._teller.tell(NodeEventKind.REPLACED, session.name,
                              f"{session.state.address} took the place of {old.state.address}")
            old.end("another connection with its name took its place")

    def joined(self, session: Session) -> None:
        """It said for the first time how it is."""
        stat, hello = session.stat, session.guest.hello
        self._teller.tell(NodeEventKind.JOINED, session.name, f"{session.state.address}, firmware"
                          f" {hello.firmware}, start {hello.boots}, {stat.chunks} chunks")
        if stat.flags & Flag.FOREIGN:
            self._teller.tell(NodeEventKind.FOREIGN, session.name, "its flash holds something else"
                              " and is left alone: `zerostor node wipe --format` makes it anew")

    def leave(self, session: Session) -> None:
        """Its connection ended."""
        if self._sessions.get(session.name) is session:
            del self._sessions[session.name]
        if session.fault:
            self._teller.tell(NodeEventKind.FAULT, session.name, session.ending)
        self._teller.tell(NodeEventKind.LEFT, session.name, session.ending)

    async def put(self, node: str, chunk: ChunkId, content: bytes | memoryview) -> None:
        """Then asks for its digest with a nonce, which a node that kept nothing cannot answer."""
        session = self._session(node)
        try:
            await session.in_turn(lambda turn: requests.put(turn, chunk, content))
        except NodeFull as error:
            await self._full(session, len(content), str(error))
            raise
        session.note_put(len(content))
        self._written(node, len(content))
        nonce = self._random(NONCE_SIZE)
        try:
            proof = await self.digest(node, chunk, "sha256", nonce)
        except (ChunkMissing, ChunkCorrupt) as error:
            raise NodeFault(f"node {node} said that it has a chunk, and has not: {error}"
                            ) from error
        if not hmac.compare_digest(proof, hashlib.sha256(nonce + content).digest()):
            self._teller.tell(NodeEventKind.CORRUPT, node, f"chunk {chunk.hex()} was written, and"
                              " other bytes are there")
            raise NodeFault(f"node {node} has other bytes than were written")

    async def get(self, node: str, chunk: ChunkId, offset: int = 0, length: int = 0) -> bytes:
        """Tells of what is missing or corrupt."""
        try:
            return await self._session(node).in_turn(
                lambda turn: requests.get(turn, chunk, offset, length))
        except (ChunkMissing, ChunkCorrupt) as error:
            self._tell_of(node, chunk, error)
            raise

    async def delete(self, node: str, chunk: ChunkId) -> None:
        """Room is asked for after it."""
        session = self._session(node)
        if await session.in_turn(lambda turn: requests.delete(turn, chunk)):
            session.note_deleted()

    async def digest(self, node: str, chunk: ChunkId, algorithm: str, nonce: bytes = b"") -> bytes:
        """Tells of what is missing or corrupt."""
        try:
            return await self._session(node).in_turn(
                lambda turn: requests.digest(turn, chunk, algorithm, nonce))
        except (ChunkMissing, ChunkCorrupt) as error:
            self._tell_of(node, chunk, error)
            raise

    async def listing(self, node: str, after: ChunkId = b"") -> AsyncIterator[tuple[ChunkId, int]]:
        """Page by page, others take their turn between them."""
        session, count, size = self._session(node), 0, 0
        while True:
            page = await session.in_turn(partial(requests.page, after=after))
            for item in page:
                yield item
            count += len(page)
            size += sum(each + FILE_HEADER for _, each in page)
            if len(page) < PAGE:
                return
            flash = session.stat.block * session.stat.blocks
            # Twice, since others may write and delete between two pages.
            if count > requests.LISTED_MAX or size > 2 * flash > 0:
                session.fault = True
                session.end(f"it lists {count} chunks of {size} bytes, its flash has {flash}")
                raise NodeFault(f"node {node}: {session.ending}")
            after = page[-1][0]

    async def wipe(self, node: str, *, format_flash: bool = False) -> None:
        """Also where the flash is not ours, with `format_flash`."""
        session = self._session(node)
        word = b"FORMAT" if format_flash else b"WIPE"
        session.wiped += 1
        await session.in_turn(
            lambda turn: requests.order(turn, Kind.WIPE, word, seconds=LONG_SECONDS), LONG_SECONDS)
        self._teller.tell(NodeEventKind.WIPED, node, "its flash was made anew" if format_flash else
                          "its chunks were removed")
        await session.ask_stat()

    async def rekey(self, node: str, key: bytes) -> None:
        """Its connection ends."""
        session = self._session(node)
        covered = masked(key, session.guest.keys.mask)
        await session.in_turn(lambda turn: requests.order(turn, Kind.REKEY, covered))
        session.end("it has a new key")

    async def update(self, node: str, app: bytes, signature: bytes) -> None:
        """Its connection ends."""
        session = self._session(node)
        await session.in_turn(lambda turn: requests.update(turn, app, signature))
        if not session.ending:
            # A link that ends here is a restart of which the OK was lost: whenever it starts now,
            # it is with what it has taken.
            with suppress(NodeAway):
                await session.in_turn(lambda turn: requests.order(turn, Kind.RESTART))
        self._teller.tell(NodeEventKind.UPDATED, node, "it starts with new firmware")
        session.end("it starts anew")

    async def restat(self, node: str) -> None:
        """Asked between two frames of what is under way."""
        await self._session(node).ask_stat()

    def drop(self, node: str, why: str) -> None:
        """Nothing if it is not here."""
        session = self._sessions.get(node)
        if session is not None:
            session.end(why)

    def watch(self) -> AsyncIterator[NodeEvent]:
        """Those of listeners as well."""
        return self._teller.watch()

    def _session(self, node: str) -> Session:
        session = self._sessions.get(node)
        if session is None:
            raise NodeAway(f"node {node} is not connected")
        return session

    def _tell_of(self, node: str, chunk: ChunkId, error: ChunkMissing | ChunkCorrupt) -> None:
        lost = isinstance(error, ChunkMissing)
        self._teller.tell(NodeEventKind.LOST if lost else NodeEventKind.CORRUPT, node,
                          f"chunk {chunk.hex()}: {error}")

    async def _full(self, session: Session, size: int, why: str) -> None:
        claimed, needed = session.stat.free, blocks(size)
        session.note_full()
        if claimed > 2 * needed and not session.stat.flags & Flag.ESTIMATE:
            self._teller.tell(NodeEventKind.FAULT, session.name, f"it claimed {claimed} free blocks"
                              f" and refused a chunk of {needed}: {why}")
        else:
            self._teller.tell(NodeEventKind.FULL, session.name, why)
