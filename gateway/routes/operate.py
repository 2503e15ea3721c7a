"""What an operator and a load balancer ask: stores, health, readiness."""

from __future__ import annotations

import asyncio

from aiohttp import web

from gateway.services import Services, services_of
from zerostor import __version__
from zerostor.core.errors import ZerostorError
from zerostor.core.health import StoreState


async def stores(request: web.Request) -> web.Response:
    """GET /api/stores: each store's state, room and labels."""
    services = services_of(request)
    rows = await asyncio.gather(*(
        _store_row(services, setting.name) for setting in services.store_settings))
    listed = [{"name": setting.name, "url": setting.url, "pool": setting.pool,
               "labels": setting.labels} | row
              for setting, row in zip(services.store_settings, rows, strict=True)]
    return web.json_response({"stores": listed})


async def healthz(_: web.Request) -> web.Response:
    """GET /healthz: this process answers."""
    return web.json_response({"status": "ok", "version": __version__})


async def readyz(request: web.Request) -> web.Response:
    """GET /readyz: 200 only when an upload would be taken and stored."""
    problems = await unready(services_of(request))
    return web.json_response({"ready": not problems, "problems": problems},
                             status=503 if problems else 200)


async def unready(services: Services) -> list[str]:
    """Why an upload would not work now; empty when it would."""
    found = await asyncio.gather(services.spool.probe(), services.queue.ping(),
                                 services.metadata.ping(), services.queue.workers(),
                                 return_exceptions=True)
    problems = []
    for result in found:
        if isinstance(result, ZerostorError):
            problems.append(str(result))
        elif isinstance(result, BaseException):
            raise result
    if found[3] == []:
        problems.append("no worker is running")
    for policy in services.policies.values():
        up = services.stores.up_count(policy)
        if up < policy.durable:
            problems.append(f"{up} stores are up and policy {policy.name} needs {policy.durable}")
    return problems


async def _store_row(services: Services, name: str) -> dict[str, object]:
    store = services.stores.stores[name]
    total = free = None
    if store.read_state is not StoreState.DOWN:
        try:
            total, free = await store.capacity()
        except ZerostorError:
            total = free = None
    return {"state": store.state.value, "reason": store.reason, "total": total, "free": free}
