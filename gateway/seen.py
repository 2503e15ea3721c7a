"""Figures that have to be asked for, all at once and each with patience."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, NamedTuple, TypeVar

from gateway.control_link import ALIVE_SECONDS
from gateway.keeper_exposition import Kept
from gateway.services import Services
from zerostor.core.errors import ZerostorError
from zerostor.core.figures import WORKER_FIGURES, WorkerFigures, decode_figures
from zerostor.core.jobs import QueueDepth
from zerostor.core.moves import decode_moves
from zerostor.core.repairs import STATE as REPAIR
from zerostor.core.repairs import decode_repair_state
from zerostor.core.scrub import STATE as SCRUB
from zerostor.core.scrub import decode_state as decode_scrub
from zerostor.engine.moves import BOARD_NAME as MOVES
from zerostor.keeper_ports import KEEPER

_T = TypeVar("_T")



class Seen(NamedTuple):
    """What was asked for: None, or not there, where it did not answer or is off.

    depth: of the queue; workers: what each said; spooled: entries that are not stored; failed: jobs
    given up; hub, telemetry: what the node hub says, empty where it is away; kept: what the keeper
    said of its tasks.
    """

    depth: QueueDepth | None
    workers: Mapping[str, WorkerFigures]
    spooled: int | None
    failed: int | None
    hub: Mapping[str, Any] | None
    telemetry: Mapping[str, Any]
    kept: Kept


async def look(services: Services) -> Seen:
    """All of it, now."""
    depth, workers, spooled, failed = await asyncio.gather(
        _told(services.queue.depth()), worker_figures(services),
        _told(services.spool.waiting()), _told(services.spool.failed()))
    hub, kept = await asyncio.gather(_hub_figures(services, "/figures"), kept_states(services))
    telemetry = await _hub_figures(services, "/figures/telemetry") if hub else {}
    return Seen(depth, workers, None if spooled is None else len(spooled),
                None if failed is None else len(failed), hub, telemetry or {}, kept)


async def _told(question: Awaitable[_T]) -> _T | None:
    """The answer, None where there is none."""
    try:
        async with asyncio.timeout(ALIVE_SECONDS):
            return await question
    except (ZerostorError, TimeoutError, OSError):
        return None


async def _hub_figures(services: Services, path: str) -> dict[str, Any] | None:
    """None where there is no node hub; empty where it does not answer."""
    if not services.nodes.enabled:
        return None
    try:
        return await services.nodes.ask("GET", path, seconds=ALIVE_SECONDS)
    except ZerostorError:
        return {}


async def worker_figures(services: Services) -> dict[str, WorkerFigures]:
    """What each worker that is alive said last; at zero of one that said nothing yet."""
    names = await _told(services.queue.workers()) or []
    said = await asyncio.gather(*(
        _told(services.board.published(WORKER_FIGURES + name)) for name in names))
    return {name: (decode_figures(state) if state else None) or WorkerFigures()
            for name, state in zip(names, said, strict=True)}


async def kept_states(services: Services) -> Kept:
    """What the keeper said last, task by task."""
    names = (KEEPER, REPAIR, SCRUB, MOVES)
    up, repair, scrub, moves = await asyncio.gather(*(
        _told(services.board.published(name)) for name in names))
    return Kept(up is not None, decode_repair_state(repair), decode_scrub(scrub),
                decode_moves(moves))
