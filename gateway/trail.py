"""What becomes of a request: its id, in its answer and its problem, and its line in the audit log.

Lines hold names that were checked and nothing that a client writes at will: no query, no header, no
body.
"""

from __future__ import annotations

import re

from aiohttp import web

from gateway.access import READS, Access, access_of
from gateway.admission import known_caller
from gateway.client_address import address_of
from gateway.http_errors import Handler, problems
from gateway.proxies import read_address
from gateway.request_id import CURRENT, HEADER, new_id
from gateway.services import Services, services_of
from zerostor.engine.audit import BROKEN_OFF, REFUSED, Audit, AuditLine

_PLAIN = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_SANE = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)
_ON = web.RequestKey("acted on", dict[str, str])


def id_of(request: web.Request) -> str:
    """Its id: what a trusted proxy called it, else one of ours."""
    found = CURRENT.get()
    if not found:
        found = _told(request) or new_id()
        CURRENT.set(found)
    return found


async def mark(request: web.Request, response: web.StreamResponse) -> None:
    """Put it in the answer."""
    response.headers[HEADER] = id_of(request)


def _told(request: web.Request) -> str:
    text = request.headers.get(HEADER)
    if text is None or _SANE.fullmatch(text) is None:
        return ""
    peer = read_address(request.remote or "")
    return text if peer is not None and services_of(request).wire.proxies.trusts(peer) else ""


def acted_on(request: web.Request, **named: object) -> None:
    """Say what `request` acts on where its path does not: job, object, home, node, key."""
    plain = {kind: text for kind, name in named.items() if (text := _plain(name))}
    request[_ON] = request.get(_ON, {}) | plain


@web.middleware
async def audited(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id, and write down how it ended."""
    id_of(request)
    services = services_of(request)
    began, answer = services.clock.monotonic(), None
    try:
        answer = await handler(request)
        return answer
    finally:
        _count(services, request, answer, began)
        if services.audit is not None:
            write_down(services.audit, request, answer, began)


def _count(services: Services, request: web.Request, answer: web.StreamResponse | None,
           began: float) -> None:
    resource = request.match_info.route.resource
    services.figures.add(
        request.method, "" if resource is None else resource.canonical,
        BROKEN_OFF if answer is None else answer.status, services.clock.monotonic() - began,
        request.content.total_bytes, _sent(answer))


async def checked_early(request: web.Request, check: Handler) -> web.StreamResponse:
    """What `check` answers before a body is sent; the request goes on if that is 200."""
    id_of(request)
    answer = await problems(request, check)
    audit = services_of(request).audit
    if audit is not None and answer.status != 200:
        write_down(audit, request, answer, audit.clock.monotonic())
    return answer


def wants(audit: Audit, request: web.Request, status: int) -> bool:
    """Whether a request that ended so is written down."""
    if status in REFUSED or audit.reads:
        return True
    return (request.method not in READS and request.match_info.http_exception is None
            and access_of(request, request.app) is not Access.HOST)


def write_down(audit: Audit, request: web.Request, answer: web.StreamResponse | None,
               began: float) -> None:
    """Tell `audit` of a request, if it wants to know. began: of its clock, monotonic."""
    status = BROKEN_OFF if answer is None else answer.status
    if not wants(audit, request, status):
        return
    caller, resource = known_caller(request), request.match_info.route.resource
    in_path = {kind: text for kind, name in request.match_info.items() if (text := _plain(name))}
    audit.tell(AuditLine(
        round(audit.clock.now(), 3), id_of(request), caller.name or caller.key[:16],
        str(caller.role or ""), address_of(request), request.method,
        "" if resource is None else resource.canonical, in_path | request.get(_ON, {}), status,
        request.content.total_bytes, _sent(answer),
        round((audit.clock.monotonic() - began) * 1000, 1)))


def _plain(name: object) -> str:
    return name if isinstance(name, str) and _PLAIN.fullmatch(name) else ""


def _sent(answer: web.StreamResponse | None) -> int:
    if answer is None:
        return 0
    body = getattr(answer, "body", None)
    return len(body) if isinstance(body, bytes) else answer.body_length
