"""A sweep in a process of its own, killed with SIGKILL at a planned step."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.fakes.dying_worker import Death, end, grid_of, in_process, lay
from tests.fakes.sweeping import QUIET, Sweeping
from zerostor.metadata.zdb import ZdbMetadata
from zerostor.stores.directory import DirectoryStore, DirectoryWriter

ROUNDS = 4


async def sweep(folder: Path, rounds: int = ROUNDS, death: Death | None = None) -> int | None:
    """Let a process sweep that often, hours apart; its exit code."""
    return await in_process(_main, folder, rounds, death)


def _main(folder: Path, rounds: int, death: Death | None) -> None:
    asyncio.run(_sweep(folder, rounds, death))


async def _sweep(folder: Path, rounds: int, death: Death | None) -> None:
    grid = grid_of(folder)
    if death is not None:
        owner, name = _CALLS[death.call]
        lay(owner, name, death)
    sweeping = Sweeping(grid)
    for _ in range(rounds):
        await sweeping.sweep(QUIET + 1)
    await sweeping.writer.close()
    await end(grid)


_CALLS: dict[str, tuple[Any, str]] = {
    "reserve": (ZdbMetadata, "reserve"),
    "replace": (ZdbMetadata, "replace"),
    "extend": (DirectoryWriter, "extend"),
    "delete": (DirectoryStore, "delete"),
    "forget": (ZdbMetadata, "delete"),
}
