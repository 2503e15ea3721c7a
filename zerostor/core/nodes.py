"""Nodes as plain values: who may dial in, what one says of itself, what happened to it."""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from zerostor.core.errors import BadRequest
from zerostor.core.node_wire import CHUNK_ID_SIZE, Flag, is_node_name
from zerostor.core.setting_types import Secret


class Node(msgspec.Struct, frozen=True):
    """A node that may dial in. owner, site: whose it is and where it stands; empty: nobody said.

    keys: those that it may prove itself by, the one to use first; two while a new one is on its way
    to the device. update_key: by which new firmware is signed. wipe: it starts empty each time it
    dials in. added: epoch seconds.
    """

    name: str
    owner: str
    site: str
    keys: tuple[Secret, ...]
    update_key: Secret
    added: float
    wipe: bool = False


class NodeStat(NamedTuple):
    """What a node said last. block: bytes of a block of its flash; blocks, free: how many, less the
    few it keeps for itself; heap: bytes, now and at its lowest; uptime: seconds; writes: chunks
    since it started.
    """

    block: int
    blocks: int
    free: int
    chunks: int
    heap: int
    heap_low: int
    uptime: int
    boots: int
    writes: int
    flags: Flag


class NodeState(NamedTuple):
    """A connected node. since: epoch seconds. address: HOST:PORT that it dials from. wiped: how
    often it was told to remove what it has, since then.
    """

    name: str
    since: float
    address: str
    firmware: str
    stat: NodeStat
    wiped: int = 0


class NodeEventKind(enum.StrEnum):
    """JOINED, LEFT: the link. REFUSED: it dialed in and was not let in. REPLACED: another came with
    its name. FULL, FOREIGN: its flash. FAULT: it said or did something that no node should.
    LOST, CORRUPT: a chunk. ADOPTED: chunks that the book did not know. WIPED, UPDATED, REKEYED: as
    it was told.
    """

    JOINED = "joined"
    LEFT = "left"
    REFUSED = "refused"
    REPLACED = "replaced"
    FULL = "full"
    FOREIGN = "foreign"
    FAULT = "fault"
    LOST = "lost"
    CORRUPT = "corrupt"
    ADOPTED = "adopted"
    WIPED = "wiped"
    UPDATED = "updated"
    REKEYED = "rekeyed"


class NodeEvent(msgspec.Struct, frozen=True):
    """What happened. at: epoch seconds. node: the name it gave, even if it is nobody's."""

    at: float
    node: str
    kind: NodeEventKind
    detail: str = ""


ChunkId = bytes
"""CHUNK_ID_SIZE of them; never given to other content."""
assert CHUNK_ID_SIZE == 16


def node_name(text: str) -> str:
    """`text` if it may name a node. Raises BadRequest."""
    if not is_node_name(text):
        raise BadRequest("a node's name is 1 to 32 of a-z 0-9 . _ - and begins with a letter or a"
                         " digit")
    return text
