"""A gateway's spool on a real HTTP server, and workers that reach it only through that."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from gateway.http_errors import problems
from gateway.leases import Leases
from gateway.routes import spool as routes
from gateway.services import SERVICES, Cluster, Services
from workers.gateway_link import HttpLink
from zerostor.clock import SystemClock
from zerostor.core.cluster_token import ClusterKey
from zerostor.queue.memory import MemoryJobQueue
from zerostor.spool.directory import DirectorySpool
from zerostor.spool.remote import RemoteSpool
from zerostor.spool.remote_calls import Gateways

SECRET = "a secret that all hosts share"


class SpoolServer:
    """The spool routes of one gateway over `spool`; they stop and start again as it does."""

    def __init__(self, spool: DirectorySpool) -> None:
        self.spool = spool
        self.clock = SystemClock()
        self.queue = MemoryJobQueue(self.clock)
        self.requests: list[str] = []
        self.port = 0
        self._stack = contextlib.AsyncExitStack()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Serve, with no lease, on the port of before."""
        self.leases = Leases(self.spool, self.clock, os.urandom)
        services = dict.fromkeys(field.name for field in dataclasses.fields(Services))
        services |= {"spool": self.spool, "clock": self.clock,
                     "cluster": Cluster(ClusterKey(SECRET), self.leases, "")}

        @web.middleware
        async def counted(request: web.Request, handler) -> web.StreamResponse:
            self.requests.append(request.path.removeprefix("/api/spool/").partition("/")[0])
            return await handler(request)

        app = web.Application(middlewares=[counted, problems])
        app[SERVICES] = Services(**services)
        app.add_routes([web.post("/api/spool/{verb}", routes.act),
                        web.get("/api/spool/body/{job}", routes.body)])
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        await self.queue.announce(self.spool.id, ClusterKey(SECRET).place(self.spool.id, self.url))

    async def stop(self) -> None:
        """What the end of the process does: connections and locks are gone."""
        await self._stack.aclose()
        for lease in list(self.leases._leases.values()):
            await self.leases._drop(lease)

    @contextlib.asynccontextmanager
    async def worker(self, folder: Path, name: str = "w1", secret: str = SECRET
                     ) -> AsyncIterator[RemoteSpool]:
        """The spool as a worker of another host has it."""
        folder.mkdir(exist_ok=True)
        link = HttpLink()
        gateways = Gateways(self.queue.peer(), link, ClusterKey(secret), name, self.clock,
                            os.urandom)
        spool = RemoteSpool(self.spool.id, gateways, folder, self.clock)
        try:
            yield spool
        finally:
            if spool._renewal is not None:
                spool._renewal.cancel()
            await link.close()
