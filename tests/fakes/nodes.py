"""Emulated nodes for tests: built once a process, killed at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.fakes.node_hub import NodeHub
from zerostor.nodes.emulator import EmulatedNode, FirmwareBuild, build

KEY = bytes(range(32))
UPDATE_KEY = bytes(range(32, 64))
QUICK = {"retry_ms": 20, "retry_max_ms": 200, "refused_ms": 400}


@cache
def firmware(real: bool = True) -> FirmwareBuild:
    """Real where that is possible; else CPython runs it."""
    folder = tempfile.TemporaryDirectory(prefix="firmware-")
    made = build(Path(folder.name), real=real)
    KEPT.append(folder)
    return made


KEPT: list[tempfile.TemporaryDirectory[str]] = []
"""Folders that go when the process ends."""


def make_node(folder: Path, port: int, name: str = "n1", **more: object) -> EmulatedNode:
    """A blank device that knows its hub."""
    chunks_kb = int(more.pop("chunks_kb", 512))  # type: ignore[call-overload]
    node = EmulatedNode(firmware(bool(more.pop("real", True))), folder / name, chunks_kb)
    settings = {"name": name, "key": KEY, "update_key": UPDATE_KEY, "hub": "127.0.0.1"}
    node.flash({**settings, "port": port, **QUICK, **more})  # type: ignore[dict-item]
    return node


@contextmanager
def one_node(folder: Path, **more: object) -> Iterator[tuple[NodeHub, EmulatedNode]]:
    """A hub and a node that was not started yet."""
    hub = NodeHub({"n1": KEY})
    node = make_node(folder, hub.port, **more)
    try:
        yield hub, node
    finally:
        node.kill()
        hub.close()
        print(node.console())
