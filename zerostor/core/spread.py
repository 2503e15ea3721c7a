"""Where the chunks of telemetry are, as plain values, and what is written down about it."""

from __future__ import annotations

import enum
import hashlib
from typing import NamedTuple, TypeAlias

import msgspec

from zerostor.core.node_chunk import ChunkKind, room
from zerostor.core.nodes import ChunkId

GENERATION_SIZE = 8
"""Random bytes of a stream: one that is made again under its name never has the ids of before."""


class Stream(msgspec.Struct, frozen=True):
    """A stream. text: it holds text. chunk_size: bytes of a chunk, with its envelope.

    generation: GENERATION_SIZE random bytes as hex.
    """

    name: str
    generation: str
    text: bool
    chunk_size: int

    @property
    def room(self) -> int:
        """Bytes of payload in a chunk."""
        return room(self.chunk_size, self.name)

    def chunk_id(self, number: int, sha256: bytes) -> ChunkId:
        """Of its chunk `number` with that content: an old copy of the book that is put back hands
        out numbers again, and nodes may have other chunks of these.
        """
        named = f"{ChunkKind.TELEMETRY:d}/{self.name}/{self.generation}/{number}/{sha256.hex()}"
        return hashlib.sha256(named.encode()).digest()[:16]

    def made(self, chunk: Chunk) -> bool:
        """Whether it is one of this generation, with the number that it was made with."""
        return chunk.id == self.chunk_id(chunk.number, chunk.sha256)

    def made_before(self, chunk: Chunk) -> bool:
        """Whether it is one of this generation that was given a higher number later.

        A microsecond for each number below its own.
        """
        return any(chunk.id == self.chunk_id(number, chunk.sha256)
                   for number in range(chunk.number))


class Chunk(NamedTuple):
    """A full chunk. size, sha256, md5: of the chunk as nodes keep it. first, last: ms since the
    epoch. local: the hub has its payload as a file too.
    """

    id: ChunkId
    stream: str
    number: int
    size: int
    sha256: bytes
    md5: bytes
    first: int
    last: int
    local: bool = True


class CopyState(enum.IntEnum):
    """HELD: it counts. SPOILED: found wrong; goes once enough others are there. DROPPED: to be
    deleted on its node.
    """

    HELD, SPOILED, DROPPED = 1, 2, 3


class Copy(NamedTuple):
    """A chunk on a node. since, verified: epoch seconds; verified: when it was last found right."""

    chunk: ChunkId
    node: str
    owner: str
    state: CopyState
    since: float
    verified: float


class LineKind(enum.StrEnum):
    """STORED, RECOVERED: a copy was written and proved; the second in place of one that was gone.
    FAILED: a write that did not come to be. LOST: a copy that is gone or wrong. RELEASED: a copy
    that is no longer needed.
    """

    STORED = "stored"
    RECOVERED = "recovered"
    FAILED = "failed"
    LOST = "lost"
    RELEASED = "released"


class Task(enum.StrEnum):
    """Work on chunks, as the toy DFS names it: distribution, replication of what was lost, check,
    deletion.
    """

    WRITE = "writedfs"
    REPLICATE = "replicatedfs"
    CHECK = "md5dfs"
    DELETE = "deldfs"


class Line(NamedTuple):
    """Of the ledger. hours: that the copy was held, once it ends. at: epoch seconds."""

    at: float
    owner: str
    node: str
    kind: LineKind
    chunk: ChunkId
    tokens: int
    hours: float = 0.0


class Account(NamedTuple):
    """What the ledger says of an owner. hours: of copies that ended."""

    owner: str
    attempts: int
    successes: int
    failures: int
    lost: int
    tokens: int
    hours: float


class ChunkGone(NamedTuple):
    """A chunk that the book forgets."""

    chunk: ChunkId


class CopyGone(NamedTuple):
    """A copy that the book forgets."""

    chunk: ChunkId
    node: str


class Window(NamedTuple):
    """The last outcomes of an owner, oldest first."""

    owner: str
    outcomes: tuple[bool, ...]


class Wear(NamedTuple):
    """Of a node. day: since the epoch; today: erases of that day; erased: all that we know of."""

    node: str
    day: int
    today: float
    erased: float


Change: TypeAlias = Chunk | Copy | Line | ChunkGone | CopyGone | Window | Wear
"""What a book writes down."""


class Known(NamedTuple):
    """What a book knows at the start."""

    chunks: tuple[Chunk, ...] = ()
    copies: tuple[Copy, ...] = ()
    windows: tuple[Window, ...] = ()
    wear: tuple[Wear, ...] = ()


class SpreadRules(NamedTuple):
    """What the settings say. Times are seconds. copies: of a chunk on nodes. grace: how long a node
    may be away until its copies are made elsewhere. recheck: between two looks at a copy. keep: how
    long telemetry stays, 0 for good. nodes_only: the local copy goes once the nodes have enough.
    rewrites: of its whole flash, that a node may have in a day.
    """

    copies: int = 3
    grace: float = 300.0
    recheck: float = 86_400.0
    keep: float = 0.0
    nodes_only: bool = False
    rewrites: float = 10.0
