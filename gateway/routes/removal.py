"""DELETE /api/objects/HASH, and what goes with it: restore, quarantine, release, list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec
from aiohttp import web

from gateway.admission import asked_query, caller_of, is_restricted
from gateway.content import Content
from gateway.intake import whole_body
from gateway.services import services_of
from gateway.trail import acted_on
from zerostor.core.control_protocol import BODY_MAX, decode
from zerostor.core.errors import BadRequest
from zerostor.core.limits import METADATA_ID_MAX
from zerostor.core.link import Hash, format_link, parse_link
from zerostor.core.record import Record, RemovedRecord
from zerostor.engine.removal import LISTED_MAX, Asker, Removal

_PRIVATE = {"Cache-Control": "no-store"}
_Act: TypeAlias = Callable[[Removal, Hash, Asker], Awaitable[Record]]


class _Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A body that says nothing."""


async def remove(request: web.Request) -> web.Response:
    """DELETE /api/objects/HASH: its link answers 410 from now on."""
    return await _act(request, Removal.remove)


async def restore(request: web.Request) -> web.Response:
    """POST /api/objects/HASH/restore: take that back."""
    return await _act(request, Removal.restore)


async def quarantine(request: web.Request) -> web.Response:
    """POST /api/objects/HASH/quarantine: its link answers 410, and it is kept."""
    return await _act(request, Removal.quarantine)


async def release(request: web.Request) -> web.Response:
    """POST /api/objects/HASH/release: end a quarantine."""
    return await _act(request, Removal.release)


async def removed(request: web.Request) -> web.Response:
    """GET /api/removed?from=&limit=: what can be restored or released."""
    services = services_of(request)
    start = _number(request, "from", 0, METADATA_ID_MAX)
    limit = _number(request, "limit", 100, LISTED_MAX)
    rows, following = await services.removal.listed(start, max(1, limit))
    told = [_described(Hash(record.content, metadata_id), record, services.removal,
                       services.content) for metadata_id, record in rows]
    return web.json_response({"removed": told, "next": following}, headers=_PRIVATE)


async def _act(request: web.Request, act: _Act) -> web.Response:
    services, caller = services_of(request), caller_of(request)
    wanted, _ = parse_link(request.match_info["hash"])
    acted_on(request, object=str(wanted))
    body = await whole_body(request, BODY_MAX)
    if body:
        decode(_Nothing, body)
    asker = Asker(caller.key or caller.name, caller.key if is_restricted(request) else None)
    record = await act(services.removal, wanted, asker)
    return web.json_response(_described(wanted, record, services.removal, services.content),
                             headers=_PRIVATE)


def _described(wanted: Hash, record: Record, removal: Removal, content: Content
               ) -> dict[str, object]:
    whole = record.object if isinstance(record, RemovedRecord) else record
    told: dict[str, object] = {
        "hash": str(wanted), "state": "stored", "at": None, "by": None, "until": None,
        "link": content.link(format_link(wanted, getattr(record, "ext", ""))),
        "size": getattr(whole, "size", None), "private": bool(getattr(whole, "salt", b""))}
    if isinstance(record, RemovedRecord):
        told |= {"state": record.state.value, "at": record.at_ms / 1000, "by": record.by,
                 "until": removal.until(record)}
    return told


def _number(request: web.Request, name: str, default: int, most: int) -> int:
    text = asked_query(request).get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= most):
        raise BadRequest(f"{name} is a number from 0 to {most}")
    return int(text)
