"""Job status with long-poll, the list of jobs, and the dead-letter list."""

from __future__ import annotations

import re

from aiohttp import web

from gateway.client_address import limited_as
from gateway.connection import while_connected
from gateway.content import Content
from gateway.routes.repair import repair_status
from gateway.routes.uploads import wait_seconds
from gateway.services import Services, services_of
from zerostor.core.errors import HomesAway, ObjectRemoved, UnknownJob, ZerostorError
from zerostor.core.jobs import JobState, JobUpdate
from zerostor.core.link import parse_link

LOOK_SECONDS = 0.5
"""Between looks of a long-poll at a slave."""
_JOB = re.compile(r"[0-9a-f]{32}")


async def status(request: web.Request) -> web.Response:
    """GET /api/status/JOB?wait=SECONDS, as one word of text or as JSON."""
    job = _job_of(request)
    wait = wait_seconds(request)
    services = services_of(request)
    answer = await repair_status(request, job, wait)
    if answer is not None:
        return answer
    unknown: ZerostorError = UnknownJob("no such job")
    with services.wire.polls.waiting(limited_as(request) if wait else None), while_connected(
            request):
        try:
            update = await services.waiters.wait(job, 0.0 if services.role.reads_only else wait)
        except HomesAway as error:
            update, unknown = None, error
        if update is None:
            update = await _from_records(services, job, wait)
    if update is None:
        raise unknown
    if update.state is JobState.DONE and await services.catalog.is_removed(
            parse_link(update.detail)[0]):
        raise ObjectRemoved
    headers = {"Cache-Control": "no-store"}
    if "application/json" in request.headers.get("Accept", ""):
        return web.json_response(describe(update, services.content), headers=headers)
    return web.Response(text=_text(update, waited=wait > 0), headers=headers)


async def _from_records(services: Services, job: str, seconds: float) -> JobUpdate | None:
    """What the records tell; a slave, whom no queue wakes, looks until the job has ended."""
    state = services.role.state
    next_id = state.next_id if state is not None else 0
    until = services.clock.monotonic() + seconds
    while True:
        update = await services.recent.find(job, next_id)
        left = until - services.clock.monotonic()
        if not services.role.reads_only or left <= 0 or (update is not None and update.state.final):
            return update
        await services.clock.sleep(min(LOOK_SECONDS, left))


async def jobs(request: web.Request) -> web.Response:
    """GET /api/jobs: how much waits and runs, who works, and what failed."""
    return web.json_response(await jobs_now(services_of(request)))


async def jobs_now(services: Services) -> dict[str, object]:
    """What that answers."""
    depth = await services.queue.depth()
    failed = [describe(update, services.content) for update in await services.spool.failed()]
    return {"waiting": depth.waiting, "running": depth.running, "delayed": depth.delayed,
            "oldest": round(depth.oldest, 1), "workers": await services.queue.workers(),
            "spool": len(await services.spool.waiting()), "failed": failed}


async def requeue(request: web.Request) -> web.Response:
    """POST /api/jobs/JOB/requeue: give a failed job a fresh start."""
    services, job = services_of(request), _job_of(request)
    await services.spool.requeue(job)
    await services.queue.forget([job])
    await services.queue.add([job], spool=services.spool.id, force=True)
    return web.json_response({"job": job, "status": f"/api/status/{job}"}, status=202)


def describe(update: JobUpdate, content: Content) -> dict[str, object]:
    """A job as JSON. content: where its object is served."""
    done = update.state is JobState.DONE
    return {"job": update.job, "state": update.state.value,
            "progress": round(update.progress, 3),
            "link": content.link(update.detail) if done else None,
            "hash": update.detail[:56] if done else None,
            "detail": "" if done else update.detail}


def _text(update: JobUpdate, *, waited: bool) -> str:
    if update.state is JobState.DONE:
        return update.detail
    if update.state is JobState.ERROR:
        return f"ERROR: {update.detail}"
    return "TIMEOUT" if waited else "ACTIVE"


def _job_of(request: web.Request) -> str:
    job = request.match_info["job"]
    if _JOB.fullmatch(job) is None:
        raise UnknownJob("no such job")
    return job
