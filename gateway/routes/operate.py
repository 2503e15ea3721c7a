"""What an operator and a load balancer ask: health, readiness, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from aiohttp import web

from gateway.admission import is_stranger
from gateway.exposition import exposition
from gateway.seen import look
from gateway.services import Services, services_of
from zerostor import __version__
from zerostor.core.errors import ZerostorError
from zerostor.engine.pool import Policy


async def healthz(_: web.Request) -> web.Response:
    """GET /healthz: this process answers."""
    return web.json_response({"status": "ok", "version": __version__})


async def readyz(request: web.Request) -> web.Response:
    """GET /readyz: 200 only when an upload would be taken and stored; of a slave, when it reads."""
    services = services_of(request)
    problems = await (unready if services.role.leads else unreadable)(services)
    status, ready = 503 if problems else 200, not problems
    if is_stranger(request):
        return web.json_response({"ready": ready}, status=status)
    # A list of keys that cannot be read keeps nobody out who was in, and no balancer from coming.
    problems += services.security.problems()
    # Nor does one of TLS: with the certificate of before everything works.
    certificates = services.wire.certificates
    problems += certificates.problems() if certificates is not None else []
    answer = {"ready": ready, "problems": problems, "metadata": _replication(services),
              "archive": _archive(services), "ssh": _standing(await services.homes.problem()),
              "nodes": _standing(await services.nodes.problem()),
              "keeper": _standing(await _keeper_problem(services))}
    return web.json_response(answer, status=status)


async def metrics(request: web.Request) -> web.Response:
    """GET /metrics, for Prometheus; what does not answer in time is left out."""
    services = services_of(request)
    text, content_type = exposition(services, await look(services),
                                    request.headers.get("Accept", ""))
    return web.Response(body=text, headers={"Content-Type": content_type})


async def unready(services: Services) -> list[str]:
    """Why an upload would not work now; empty when it would."""
    found = await asyncio.gather(services.spool.probe(), services.queue.ping(),
                                 services.metadata.ping(), services.queue.workers(),
                                 return_exceptions=True)
    problems = _problems(found)
    if found[3] == []:
        problems.append("no worker is running")
    archivist = services.archivist
    if archivist is not None and archivist.state.superseded:
        problems.append(archivist.state.problem)
    pool = services.stores
    return problems + [_too_few(pool.up_count(policy), policy, policy.durable)
                       for policy in services.policies.values()
                       if pool.up_count(policy) < policy.durable]


async def unreadable(services: Services) -> list[str]:
    """Why a download would not work now; empty when it would."""
    found = await asyncio.gather(services.metadata.ping(), return_exceptions=True)
    pool = services.stores
    return _problems(found) + [_too_few(pool.readable_count(policy), policy, policy.data)
                           for policy in services.policies.values()
                           if pool.readable_count(policy) < policy.data]


def _problems(found: Sequence[object]) -> list[str]:
    for result in found:
        if isinstance(result, BaseException) and not isinstance(result, ZerostorError):
            raise result
    return [str(result) for result in found if isinstance(result, ZerostorError)]


def _too_few(up: int, policy: Policy, needed: int) -> str:
    return f"{up} stores are up and policy {policy.name} needs {needed}"


def _replication(services: Services) -> dict[str, object] | None:
    """What the metadata server told of itself last."""
    state = services.role.state
    return None if state is None else msgspec.to_builtins(state)


def _archive(services: Services) -> dict[str, object] | None:
    """How the metadata log in the pool is; null where this gateway does not keep it."""
    archivist = services.archivist
    return None if archivist is None else msgspec.to_builtins(archivist.state)


def _standing(problem: str | None) -> dict[str, object] | None:
    """Whether SSH homes, nodes or the keeper work; null where they are off. Uploads need none."""
    return None if problem is None else {"up": not problem, "problem": problem}


async def _keeper_problem(services: Services) -> str | None:
    """Why nothing is repaired now; None of a slave, whose master's keeper does it."""
    if services.role.reads_only:
        return None
    try:
        return "" if await services.board.published("keeper") else "no keeper is running"
    except ZerostorError as error:
        return str(error)
