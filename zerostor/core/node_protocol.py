"""What the gateway and the command line say to the node hub: JSON both ways.

The bodies are those of POST /api/nodes/...: the gateway hands them on as they came.
"""

from __future__ import annotations

from typing import Any

import msgspec

from zerostor.core.node_chunk import CHUNK_SIZE, erases, years_left
from zerostor.core.node_wire import Flag
from zerostor.core.nodes import Node, NodeEvent, NodeStat, NodeState

YEARS_MAX = 1000.0
"""More is of no interest, and infinity is no JSON."""
DAY = 86_400.0
VERIFIED_AT_ONCE = 32
"""Chunks that one request verifies: it takes seconds, and others want their turn."""


class AddNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /api/nodes/add."""

    name: str
    owner: str = ""
    site: str = ""
    wipe: bool = False


class NamedNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /api/nodes/remove, rotate, update."""

    name: str


class WipeNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /api/nodes/wipe. format: make the file system anew, whatever is there."""

    name: str
    format: bool = False


class VerifyNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /api/nodes/verify. after: the id up to which it was verified before, as hex."""

    name: str
    after: str = ""


def node_answer(node: Node, state: NodeState | None, last: NodeEvent | None) -> dict[str, Any]:
    """A node as JSON. state: None while it is away."""
    answer: dict[str, Any] = {
        "name": node.name, "owner": node.owner, "site": node.site, "added": node.added,
        "wipe": node.wipe, "keys": len(node.keys),
        "state": "away" if state is None else "connected",
        "last_event": None if last is None else event_answer(last)}
    if state is not None:
        answer |= {"since": state.since, "firmware": state.firmware, **stat_answer(state.stat)}
    return answer


def stat_answer(stat: NodeStat) -> dict[str, Any]:
    """How a node is, as JSON: bytes, seconds, years."""
    return {
        "size": stat.block * stat.blocks, "free": stat.block * stat.free, "chunks": stat.chunks,
        "heap": stat.heap, "heap_lowest": stat.heap_low, "uptime": stat.uptime,
        "boots": stat.boots, "writes": stat.writes, "years_left": wear_years(stat),
        "estimate": Flag.ESTIMATE in stat.flags, "needs_format": Flag.FOREIGN in stat.flags,
        "on_trial": Flag.TRIAL in stat.flags}


def wear_years(stat: NodeStat) -> float | None:
    """Until its flash is worn if it goes on as since its start; None: it did not say yet."""
    if not stat.blocks or not stat.uptime:
        return None
    # Within the first day the beginning would say more than it knows.
    a_day = stat.writes * erases(CHUNK_SIZE) * DAY / max(float(stat.uptime), DAY)
    return round(min(YEARS_MAX, years_left(stat.blocks, a_day)), 1)


def event_answer(event: NodeEvent) -> dict[str, Any]:
    """An event as JSON."""
    return {"at": event.at, "node": event.node, "kind": str(event.kind), "detail": event.detail}
