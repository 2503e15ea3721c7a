"""What the gateway and the command line say to the node hub: JSON both ways.

The bodies are those of POST /api/nodes/...: the gateway hands them on as they came.
"""

from __future__ import annotations

from typing import Any

import msgspec

from zerostor.core.node_wire import Flag
from zerostor.core.nodes import Node, NodeEvent, NodeStat, NodeState

VERIFIED_AT_ONCE = 32
"""Chunks that one request verifies: it takes seconds, and others want their turn."""


class AddNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /api/nodes/add."""

    name: str
    owner: str = ""
    site: str = ""
    wipe: bool = False


class NamedNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /api/nodes/remove, update."""

    name: str


class RotateNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /api/nodes/rotate. by_hand: the key is told, for a node that knows none of ours."""

    name: str
    by_hand: bool = False


class WipeNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /api/nodes/wipe. format: make the file system anew, whatever is there."""

    name: str
    format: bool = False


class VerifyNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /api/nodes/verify. after: the id up to which it was verified before, as hex."""

    name: str
    after: str = ""


def node_answer(node: Node, state: NodeState | None, last: NodeEvent | None,
                years: float | None) -> dict[str, Any]:
    """A node as JSON. state: None while it is away. years: until its flash is worn, if known."""
    answer: dict[str, Any] = {
        "name": node.name, "owner": node.owner, "site": node.site, "added": node.added,
        "wipe": node.wipe, "keys": len(node.keys),
        "state": "away" if state is None else "connected",
        "last_event": None if last is None else event_answer(last)}
    if state is not None:
        answer |= {"since": state.since, "firmware": state.firmware, "years_left": years,
                   **stat_answer(state.stat)}
    return answer


def stat_answer(stat: NodeStat) -> dict[str, Any]:
    """How a node is, as JSON: bytes, seconds."""
    return {
        "size": stat.block * stat.blocks, "free": stat.block * stat.free, "chunks": stat.chunks,
        "heap": stat.heap, "heap_lowest": stat.heap_low, "uptime": stat.uptime,
        "boots": stat.boots, "writes": stat.writes,
        "estimate": Flag.ESTIMATE in stat.flags, "needs_format": Flag.FOREIGN in stat.flags,
        "on_trial": Flag.TRIAL in stat.flags}


def event_answer(event: NodeEvent) -> dict[str, Any]:
    """An event as JSON."""
    return {"at": event.at, "node": event.node, "kind": str(event.kind), "detail": event.detail}
