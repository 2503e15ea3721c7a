"""POST /api/repair/HASH, and checks and repairs of everything, a portion at a time."""

from __future__ import annotations

import msgspec
from aiohttp import web

from gateway.admission import asked_query
from gateway.client_address import limited_as
from gateway.connection import while_connected
from gateway.intake import whole_body
from gateway.services import Services, services_of
from gateway.trail import acted_on
from zerostor.core.control_protocol import BODY_MAX, decode
from zerostor.core.errors import BadRequest
from zerostor.core.limits import JOB_ID_SIZE, METADATA_ID_MAX
from zerostor.core.link import format_link, make_hash, parse_link
from zerostor.core.record import ObjectRecord
from zerostor.core.repairs import (
    STATE,
    RepairJob,
    RepairState,
    decode_job,
    decode_repair_state,
    encode_state,
    job_name,
)
from zerostor.engine.catalog import Holder
from zerostor.engine.check import Report
from zerostor.engine.survey import Portion, check_portion, objects_of
from zerostor.keeper_ports import RepairAsk

JOB_MARK = "4e9a"
"""What ids of repairs begin with, so that the board is asked about no other jobs."""
JOB_KEEP = 24 * 3600.0
ASK_AGAIN = 30.0
"""Seconds after which a repair that nobody spoke of is asked for again: a keeper that died took the
ask with it."""
LOOK_SECONDS = 0.5
PORTION, PORTION_MAX = 200, 1000
HARD_PORTION_MAX = 50
_FRESH = {"Cache-Control": "no-store"}
ASKED = "asked for"


class _Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A body that says nothing."""


async def repair(request: web.Request) -> web.Response:
    """POST /api/repair/HASH?dry_run=1: have it made whole, or say what would be done."""
    services = services_of(request)
    wanted, _ = parse_link(request.match_info["hash"])
    dry = _flag(request, "dry_run")
    acted_on(request, object=str(wanted))
    located = await services.catalog.find(wanted)
    assert located.holder is not None
    metadata_id = located.holder.metadata_id
    if dry:
        outcome = await services.repairer.repair(metadata_id, hard=True, dry_run=True)
        return web.json_response(msgspec.to_builtins(outcome), headers=_FRESH)
    report = await services.checker.check(located, hard=False)
    job = JOB_MARK + services.random_bytes(JOB_ID_SIZE).hex()[len(JOB_MARK):]
    told = RepairJob(job, metadata_id, "ACTIVE", told=services.clock.now(), spare=report.spare)
    await services.board.publish(job_name(job), encode_state(told), JOB_KEEP)
    await services.board.ask([RepairAsk(metadata_id, report.spare, ASKED, job)])
    return web.json_response({"job": job, "status": f"/api/status/{job}"}, status=202)


async def repairs(request: web.Request) -> web.Response:
    """GET /api/repairs: how they go."""
    board = services_of(request).board
    state = decode_repair_state(await board.published(STATE))
    told = msgspec.to_builtins(state or RepairState())
    told["asked"] = await board.waiting()
    told["by_spare"] = [{"spare": int(spare), "sets": count}
                        for spare, count in sorted(told["by_spare"].items(), key=_first)]
    return web.json_response({"running": state is not None} | told, headers=_FRESH)


async def check_all(request: web.Request) -> web.Response:
    """GET /api/check?from=&limit=&mode=: a portion of everything that is stored."""
    portion = await _portion(request)
    return web.json_response(_described(services_of(request), portion), headers=_FRESH)


async def repair_all(request: web.Request) -> web.Response:
    """POST /api/repairs?from=&limit=&mode=: as that, and what is not healthy is to be repaired."""
    body = await whole_body(request, BODY_MAX)
    if body:
        decode(_Nothing, body)
    services, portion = services_of(request), await _portion(request)
    if not _flag(request, "dry_run"):
        await services.board.ask([RepairAsk(holder.metadata_id, report.spare, ASKED)
                                  for holder, report in portion.bad])
    return web.json_response(_described(services, portion), headers=_FRESH)


async def repair_status(request: web.Request, job: str, wait: float) -> web.Response | None:
    """The status of a repair, as that of any job; None if it is not one, or forgotten."""
    if not job.startswith(JOB_MARK):
        return None
    services = services_of(request)
    until = services.clock.monotonic() + wait
    with services.wire.polls.waiting(limited_as(request) if wait else None), while_connected(
            request):
        while True:
            told = decode_job(await services.board.published(job_name(job)))
            if told is None:
                return None
            if told.outcome is not None or told.state in ("DONE", "ERROR"):
                break
            if services.clock.now() - told.told > ASK_AGAIN:
                await _ask_again(services, told)
            left = until - services.clock.monotonic()
            if left <= 0:
                break
            await services.clock.sleep(min(LOOK_SECONDS, left))
    if "application/json" in request.headers.get("Accept", ""):
        return web.json_response(_job(told), headers=_FRESH)
    return web.Response(text=_text(told, waited=wait > 0), headers=_FRESH)


async def _ask_again(services: Services, told: RepairJob) -> None:
    told.told = services.clock.now()
    await services.board.publish(job_name(told.job), encode_state(told), JOB_KEEP)
    await services.board.ask([RepairAsk(told.metadata_id, told.spare, ASKED, told.job)])


def _job(told: RepairJob) -> dict[str, object]:
    done = told.state == "DONE"
    return {"job": told.job, "state": told.state, "progress": 1.0 if done else 0.0, "link": None,
            "hash": None, "detail": "" if done else told.detail,
            "repair": None if told.outcome is None else msgspec.to_builtins(told.outcome)}


def _text(told: RepairJob, *, waited: bool) -> str:
    if told.outcome is not None:
        return told.outcome.state
    if told.state == "ERROR":
        return f"ERROR: {told.detail}"
    return "TIMEOUT" if waited else "ACTIVE"


async def _portion(request: web.Request) -> Portion:
    services = services_of(request)
    query = asked_query(request)
    mode = query.get("mode", "soft")
    if mode not in ("soft", "hard"):
        raise BadRequest("mode is soft or hard")
    hard = mode == "hard"
    most = HARD_PORTION_MAX if hard else PORTION_MAX
    limit = min(_number(request, "limit", PORTION, PORTION_MAX), most)
    return await check_portion(services.metadata, services.checker,
                               _number(request, "from", 0, METADATA_ID_MAX), max(1, limit),
                               hard=hard)


def _described(services: Services, portion: Portion) -> dict[str, object]:
    state = services.role.state
    return {
        "next": portion.following, "of": None if state is None else state.next_id,
        "sets": portion.sets, "objects": portion.objects, "healthy": portion.healthy,
        "degraded": [{"lost": lost, "objects": count}
                     for lost, count in sorted(portion.degraded.items())],
        "unreadable": portion.unreadable, "damaged": portion.damaged,
        "bad": [_bad(holder, report) for holder, report in portion.bad]}


def _bad(holder: Holder, report: Report) -> dict[str, object]:
    record = holder.record
    link = None
    if isinstance(record, ObjectRecord):
        link = format_link(make_hash(record.content, holder.metadata_id), record.ext)
    return {"id": holder.metadata_id, "link": link, "objects": objects_of(holder),
            "state": report.state, "good": report.good, "needed": report.needed,
            "total": len(report.stripes.stores), "content": report.content,
            "faults": [{"shard": shard, "store": report.stripes.stores[shard],
                        "state": fault.state.value, "detail": fault.detail}
                       for shard, fault in sorted(report.faults.items())]}


def _number(request: web.Request, name: str, default: int, most: int) -> int:
    text = asked_query(request).get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= most):
        raise BadRequest(f"{name} is a number from 0 to {most}")
    return int(text)


def _flag(request: web.Request, name: str) -> bool:
    text = asked_query(request).get(name, "0")
    if text not in ("0", "1"):
        raise BadRequest(f"{name} is 0 or 1")
    return text == "1"


def _first(pair: tuple[str, int]) -> int:
    return int(pair[0])
