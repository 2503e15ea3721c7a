"""The HTTP process: the whole route table, and how it starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
from collections.abc import AsyncIterator

from aiohttp import web

from gateway import page
from gateway.access import READS, Access, add_routes, delete, get, get_only, post
from gateway.activity import ACTIVITY, Activity, noticed
from gateway.admission import admit
from gateway.announcer import announce
from gateway.client_address import is_secure
from gateway.connection import Connection
from gateway.content import OBJECT_PATH
from gateway.event_feed import EventFeed
from gateway.expiry import watch_expiry
from gateway.http_errors import Handler, problems
from gateway.openapi import openapi
from gateway.reconciler import reconcile
from gateway.room import Room
from gateway.routes import (
    events,
    jobs,
    nodes,
    objects,
    operate,
    removal,
    repair,
    scrub,
    sign_in,
    spool,
    ssh,
    stores,
    telemetry,
    uploads,
)
from gateway.services import SERVICES, Services, services_of
from gateway.tls_listener import TlsListener
from gateway.trail import audited, mark
from zerostor.core.units import Address

_log = logging.getLogger(__name__)

READ_BUFFER = 256 * 1024
"""Bytes buffered per connection; larger costs memory with many uploads and gains nothing."""
BACKLOG = 1024
"""Connections that may wait to be taken."""
_LOCAL = ("/api/spool/", "/api/ssh/enable", "/api/ssh/disable", "/api/nodes/",
          "/api/telemetry/", "/api/authenticate", "/api/sessions/")


ROUTES = (
    post("/api/upload", uploads.upload, Access.USER, uploads.expect_continue),
    get("/", page.index, Access.PUBLIC),
    get("/api/status/{job}", jobs.status, Access.PUBLIC),
    get("/api/jobs", jobs.jobs, Access.ADMIN),
    post("/api/jobs/{job}/requeue", jobs.requeue, Access.ADMIN),
    get("/api/exists/{hash}", objects.exists, Access.PUBLIC),
    get("/api/check/{hash}", objects.check, objects.check_access),
    get_only("/api/check", repair.check_all, Access.LOCAL),
    post("/api/repair/{hash}", repair.repair, Access.ADMIN),
    get_only("/api/repairs", repair.repairs, Access.ADMIN),
    post("/api/repairs", repair.repair_all, Access.LOCAL),
    get_only("/api/removed", removal.removed, Access.LOCAL),
    delete("/api/objects/{hash}", removal.remove, Access.OWNER),
    post("/api/objects/{hash}/restore", removal.restore, Access.OWNER),
    post("/api/objects/{hash}/quarantine", removal.quarantine, Access.LOCAL),
    post("/api/objects/{hash}/release", removal.release, Access.LOCAL),
    get("/api/scrub", scrub.state, Access.ADMIN),
    post("/api/scrub", scrub.act, Access.LOCAL),
    get("/api/stores", stores.stores, Access.ADMIN),
    post("/api/stores", stores.add, Access.HERE),
    post("/api/stores/rebalance", stores.rebalance, Access.LOCAL),
    post("/api/stores/{name}/drain", stores.drain, Access.LOCAL),
    post("/api/stores/{name}/undrain", stores.undrain, Access.LOCAL),
    post("/api/stores/{name}/remove", stores.remove, Access.LOCAL),
    post("/api/stores/{name}/replace", stores.replace, Access.HERE),
    get("/api/pubkey", sign_in.public_key, Access.PUBLIC),
    post("/api/authenticate", sign_in.authenticate, Access.PUBLIC),
    get("/api/sessions", sign_in.listed, Access.USER),
    post("/api/sessions/revoke", sign_in.revoke, Access.USER),
    get_only("/api/events", events.events, Access.ADMIN),
    get("/docs", page.docs, Access.PUBLIC),
    get("/explorer/{name}", page.asset, Access.PUBLIC),
    get("/healthz", operate.healthz, Access.PUBLIC),
    get("/readyz", operate.readyz, Access.PUBLIC),
    get("/metrics", operate.metrics, Access.ADMIN),
    get("/openapi.json", openapi, Access.PUBLIC),
    get("/api/ssh/homes", ssh.homes, Access.HOMES),
    post("/api/ssh/enable", ssh.enable, Access.HOME),
    post("/api/ssh/disable", ssh.disable, Access.HOME),
    post("/api/ssh/process", ssh.process, Access.HOME),
    get("/api/ssh/size/{user}", ssh.size, Access.HOME),
    get("/api/ssh/links/{user}", ssh.links, Access.HOME),
    get("/api/ssh/events/{user}", ssh.events, Access.HOME),
    get("/api/nodes", nodes.nodes, Access.ADMIN),
    get("/api/nodes/events", nodes.events, Access.ADMIN),
    get("/api/nodes/ledger", telemetry.ledger, Access.ADMIN),
    get("/api/nodes/jobs", telemetry.jobs, Access.ADMIN),
    get("/api/nodes/chunks", telemetry.chunks, Access.ADMIN),
    post("/api/nodes/add", nodes.act, Access.LOCAL),
    post("/api/nodes/remove", nodes.act, Access.LOCAL),
    post("/api/nodes/rotate", nodes.act, Access.LOCAL),
    post("/api/nodes/wipe", nodes.act, Access.LOCAL),
    post("/api/nodes/verify", nodes.act, Access.LOCAL),
    post("/api/nodes/update", nodes.act, Access.LOCAL),
    get("/api/telemetry", telemetry.streams, Access.USER),
    post("/api/telemetry/{stream}", telemetry.append, Access.USER),
    get_only("/api/telemetry/{stream}", telemetry.read, Access.USER),
    delete("/api/telemetry/{stream}", telemetry.remove, Access.LOCAL),
    post("/api/spool/{verb}", spool.act, Access.HOST),
    get("/api/spool/body/{job}", spool.body, Access.HOST),
    get(OBJECT_PATH, objects.serve, Access.PUBLIC),
)
"""Every route, and who may ask it."""


@web.middleware
async def entrance(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let through who may ask, and on a slave nothing that would write, before a byte of its body
    is taken.
    """
    admit(request)
    # Workers end what this host accepted before it became one; who may log in is its own matter.
    if request.method not in READS and not request.path.startswith(_LOCAL):
        await services_of(request).role.require_master()
    return await handler(request)


async def keep_to_https(request: web.Request, response: web.StreamResponse) -> None:
    """Have browsers that came by https come by nothing else."""
    if is_secure(request):
        seconds = int(services_of(request).wire.hsts)
        response.headers["Strict-Transport-Security"] = f"max-age={seconds}"


def build_app(services: Services) -> web.Application:
    """The application; what it answers is in ROUTES, and nothing else."""
    app = web.Application(middlewares=[audited, problems, entrance, noticed])
    app[SERVICES] = services
    add_routes(app, ROUTES)
    app[ACTIVITY] = Activity()
    app[events.FEED] = feed = EventFeed(services, events.SOURCES)
    app.on_shutdown.append(lambda _: feed.close())
    app.on_response_prepare.append(mark)
    if services.wire.hsts:
        app.on_response_prepare.append(keep_to_https)
    app.cleanup_ctx.append(_background)
    return app


async def run(services: Services, listen: Address) -> None:
    """Serve until cancelled; requests in flight get a few seconds to end."""
    # A warning for each malformed header of a form: anyone could fill the log with them.
    warnings.filterwarnings("ignore", module="aiohttp")
    loop = asyncio.get_running_loop()
    runner = web.AppRunner(build_app(services), shutdown_timeout=5.0)
    await runner.setup()

    limits = services.wire.limits
    room = Room(limits.connections, limits.address_connections, services.wire.proxies)

    def connection() -> Connection:
        assert runner.server is not None
        return Connection(runner.server, room=room, loop=loop, auto_decompress=False,
                          access_log=None,  # as its runners do
                          keepalive_timeout=limits.header_timeout, read_bufsize=READ_BUFFER)

    certificates = services.wire.certificates
    listener: TlsListener | asyncio.Server | None = None
    try:
        if certificates is not None:
            listener = TlsListener(connection, room, lambda: certificates.context,
                                   limits.header_timeout)
            await listener.open(listen, BACKLOG)
        else:
            listener = await loop.create_server(connection, listen.host, listen.port,
                                                backlog=BACKLOG)
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
             asyncio.create_task(services.wire.pressure.run()),
             asyncio.create_task(app[ACTIVITY].run(services.board, services.clock)),
             asyncio.create_task(reconcile(services.queue, services.spool, services.waiters))]
    if services.cluster is not None:
        spool_id = services.spool.id
        place = services.cluster.key.place(spool_id, services.cluster.url)
        tasks += [asyncio.create_task(services.cluster.leases.run()),
                  asyncio.create_task(announce(services.queue, spool_id, place))]
    if services.known is not None:
        tasks.append(asyncio.create_task(services.known.run()))
    if services.sessions is not None:
        tasks.append(asyncio.create_task(services.sessions.run()))
    if services.watch is not None:
        tasks.append(asyncio.create_task(services.watch.run()))
    if services.archivist is not None:
        tasks.append(asyncio.create_task(services.archivist.run()))
    if services.wire.certificates is not None:
        tasks.append(asyncio.create_task(services.wire.certificates.run(services.clock)))
        tasks.append(asyncio.create_task(watch_expiry(services.wire.certificates, services.events,
                                                      services.clock)))
    if services.audit is not None:
        tasks.append(asyncio.create_task(services.audit.run()))
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
