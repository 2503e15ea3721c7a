"""The HTTP process: the whole route table, and how it starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
from collections.abc import AsyncIterator

from aiohttp import web

from gateway import page
from gateway.announcer import announce
from gateway.connection import Connection, Room
from gateway.http_errors import Handler, problems
from gateway.openapi import openapi
from gateway.reconciler import reconcile
from gateway.routes import jobs, nodes, objects, operate, spool, ssh, telemetry, uploads
from gateway.services import SERVICES, Services, services_of
from zerostor.core.units import Address

_log = logging.getLogger(__name__)

READ_BUFFER = 256 * 1024
"""Bytes buffered per connection; larger costs memory with many uploads and gains nothing."""
KEEPALIVE = 30.0
BACKLOG = 1024
"""Connections that may wait to be taken."""
_READS = ("GET", "HEAD", "OPTIONS")
_LOCAL = ("/api/spool/", "/api/ssh/enable", "/api/ssh/disable", "/api/nodes/",
          "/api/telemetry/")


@web.middleware
async def writes_to_master(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse on a slave whatever would write, before a byte of its body is taken."""
    # Workers end what this host accepted before it became one; who may log in is its own matter.
    if request.method not in _READS and not request.path.startswith(_LOCAL):
        await services_of(request).role.require_master()
    return await handler(request)


def build_app(services: Services) -> web.Application:
    """The application; every route is here."""
    app = web.Application(middlewares=[problems, writes_to_master])
    app[SERVICES] = services
    app.router.add_post("/api/upload", uploads.upload, expect_handler=uploads.expect_continue)
    app.add_routes([
        web.get("/", page.index),
        web.get("/api/status/{job}", jobs.status),
        web.get("/api/jobs", jobs.jobs),
        web.post("/api/jobs/{job}/requeue", jobs.requeue),
        web.get("/api/exists/{hash}", objects.exists),
        web.get("/api/check/{hash}", objects.check),
        web.get("/api/stores", operate.stores),
        web.get("/docs", page.docs),
        web.get("/explorer/{name}", page.asset),
        web.get("/healthz", operate.healthz),
        web.get("/readyz", operate.readyz),
        web.get("/metrics", operate.metrics),
        web.get("/openapi.json", openapi),
        web.get("/api/ssh/homes", ssh.homes),
        web.post("/api/ssh/enable", ssh.enable),
        web.post("/api/ssh/disable", ssh.disable),
        web.post("/api/ssh/process", ssh.process),
        web.get("/api/ssh/size/{user}", ssh.size),
        web.get("/api/ssh/links/{user}", ssh.links),
        web.get("/api/ssh/events/{user}", ssh.events),
        web.get("/api/nodes", nodes.nodes),
        web.get("/api/nodes/events", nodes.events),
        web.get("/api/nodes/ledger", telemetry.ledger),
        web.get("/api/nodes/jobs", telemetry.jobs),
        web.post("/api/nodes/add", nodes.act),
        web.post("/api/nodes/remove", nodes.act),
        web.post("/api/nodes/rotate", nodes.act),
        web.post("/api/nodes/wipe", nodes.act),
        web.post("/api/nodes/verify", nodes.act),
        web.post("/api/nodes/update", nodes.act),
        web.get("/api/telemetry", telemetry.streams),
        web.post("/api/telemetry/{stream}", telemetry.append),
        web.get("/api/telemetry/{stream}", telemetry.read, allow_head=False),
        web.delete("/api/telemetry/{stream}", telemetry.remove),
        web.post("/api/spool/{verb}", spool.act),
        web.get("/api/spool/body/{job}", spool.body),
        web.get("/{link}", objects.serve),
    ])
    app.cleanup_ctx.append(_background)
    return app


async def run(services: Services, listen: Address) -> None:
    """Serve until cancelled; requests in flight get a few seconds to end."""
    # A warning for each malformed header of a form: anyone could fill the log with them.
    warnings.filterwarnings("ignore", module="aiohttp")
    loop = asyncio.get_running_loop()
    runner = web.AppRunner(build_app(services), shutdown_timeout=5.0)
    await runner.setup()

    room = Room()

    def connection() -> Connection:
        assert runner.server is not None
        return Connection(runner.server, room=room, loop=loop, auto_decompress=False,
                          access_log=None,  # as its runners do
                          keepalive_timeout=KEEPALIVE, read_bufsize=READ_BUFFER)

    listener = None
    try:
        listener = await loop.create_server(connection, listen.host, listen.port, backlog=BACKLOG)
        _log.info("listening on %s", listen)
        await asyncio.Event().wait()
    finally:
        if listener is not None:
            listener.close()
        await runner.cleanup()


async def _background(app: web.Application) -> AsyncIterator[None]:
    services = app[SERVICES]
    tasks = [asyncio.create_task(services.waiters.run()),
             asyncio.create_task(services.role.run()),
             asyncio.create_task(reconcile(services.queue, services.spool, services.waiters))]
    if services.cluster is not None:
        spool_id = services.spool.id
        place = services.cluster.key.place(spool_id, services.cluster.url)
        tasks += [asyncio.create_task(services.cluster.leases.run()),
                  asyncio.create_task(announce(services.queue, spool_id, place))]
    if services.archivist is not None:
        tasks.append(asyncio.create_task(services.archivist.run()))
    for task in tasks:
        task.add_done_callback(_ended)
    yield
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.critical("a background task failed; restart the gateway", exc_info=task.exception())
