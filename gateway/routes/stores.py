"""GET /api/stores, and what is said of stores: add, drain, undrain, remove, replace, rebalance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from aiohttp import web

from gateway.intake import whole_body
from gateway.services import Services, services_of
from gateway.trail import acted_on
from zerostor.core.control_protocol import BODY_MAX, decode
from zerostor.core.durability import Durability, durability
from zerostor.core.errors import (
    BadRequest,
    SetupError,
    StoreUnavailable,
    UnknownStore,
    WrongState,
    ZerostorError,
)
from zerostor.core.health import CallFigures, Condition
from zerostor.core.moves import MovesState, decode_moves
from zerostor.core.policy_settings import complete_policy
from zerostor.core.roll import Roll, RollEntry
from zerostor.core.settings import DEFAULT_POOL, Policy, StoreSettings, is_name
from zerostor.engine.census import Census
from zerostor.engine.moves import BOARD_NAME
from zerostor.engine.store_events import StoreEvents
from zerostor.store_ports import JudgedStore

_PRIVATE = {"Cache-Control": "no-store"}
_T = TypeVar("_T", bound=msgspec.Struct)
HERE = "this machine"
"""The failure domain of folders whose settings name no host."""


class _Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A body that says nothing."""


class _Add(msgspec.Struct, forbid_unknown_fields=True):
    """The body of add and replace: a [[store]]."""

    name: str
    url: str
    pool: str = DEFAULT_POOL
    labels: dict[str, str] = {}
    password_file: str = ""

    @property
    def settings(self) -> StoreSettings:
        return StoreSettings(self.name, self.url, self.pool, self.labels, self.password_file)


class _Remove(msgspec.Struct, forbid_unknown_fields=True):
    """lost: what records name there is given up."""

    lost: bool = False


async def stores(request: web.Request) -> web.Response:
    """GET /api/stores: how each store is, what is done with it, and what may be lost."""
    return web.json_response(await stores_now(services_of(request)))


async def stores_now(services: Services) -> dict[str, object]:
    """What that answers."""
    moves = await _moves(services)
    roll, settings = services.roll.roll, services.roll.settings
    rows = [_row(services.stores.stores[one.name], one, roll, moves) for one in settings]
    rows += [_unknown(name, count.shards) for name, count in sorted(moves.unknown.items())
             if name not in services.stores.names]
    archivist, state = services.archivist, services.role.state
    return {"stores": rows,
            "metadata": None if state is None else msgspec.to_builtins(state),
            "archive": None if archivist is None else msgspec.to_builtins(archivist.state),
            "uploads": not services.role.reads_only,
            "counted": moves.counted, "unwritten": moves.unwritten,
            "rebalance": msgspec.to_builtins(moves.even),
            "rebalance_done": roll.evened_ms >= roll.even_ms,
            "durability": [_told(each) for each in _durability(services, settings)]}


async def add(request: web.Request) -> web.Response:
    """POST /api/stores: one more, with an empty place or one that was this store's."""
    services, body = services_of(request), await _body(request, _Add)
    note = await _add(request, services, body.settings)
    return _answer(services, body.name, note)


async def drain(request: web.Request) -> web.Response:
    """POST /api/stores/NAME/drain: nothing new goes there, and what is there goes elsewhere."""
    services, name = await _named(request, _Nothing)
    _spare(services, name)
    await _say(services, name, lambda entry: msgspec.structs.replace(
        entry, draining=True, into="", leaves=False))
    StoreEvents(services.events).draining(name)
    return _answer(services, name)


async def undrain(request: web.Request) -> web.Response:
    """POST /api/stores/NAME/undrain: it is one like others again, with what is left there."""
    services, name = await _named(request, _Nothing)
    await _say(services, name, lambda entry: msgspec.structs.replace(
        entry, draining=False, into="", leaves=False))
    return _answer(services, name)


async def remove(request: web.Request) -> web.Response:
    """POST /api/stores/NAME/remove: it is none of ours; only when it is empty, or given up."""
    services, name = services_of(request), request.match_info["name"]
    acted_on(request, store=name)
    body = await _body(request, _Remove)
    if name in services.stores.names:
        _spare(services, name)
    elif not body.lost or not is_name(name) or not await _named_by_records(services, name):
        raise UnknownStore(f"there is no store {name!r}")
    if not body.lost:
        await _require_empty(services, name)
    await _say(services, name, lambda entry: msgspec.structs.replace(
        entry, draining=False, removed=True, lost=body.lost, url=""))
    StoreEvents(services.events).removed(name, lost=body.lost)
    return _answer(services, name)


async def replace(request: web.Request) -> web.Response:
    """POST /api/stores/NAME/replace: add one, empty NAME into it, then remove NAME."""
    services, name = services_of(request), request.match_info["name"]
    acted_on(request, store=name)
    body = await _body(request, _Add)
    _require(services, name)
    if body.name == name:
        raise BadRequest("give the new store a name of its own: records name both for a while")
    note = await _add(request, services, body.settings)
    _spare(services, name)
    await _say(services, name, lambda entry: msgspec.structs.replace(
        entry, draining=True, into=body.name, leaves=True))
    StoreEvents(services.events).draining(name)
    return _answer(services, body.name, note)


async def rebalance(request: web.Request) -> web.Response:
    """POST /api/stores/rebalance: shards move until all stores hold their part."""
    services = services_of(request)
    await _body(request, _Nothing)
    now = int(services.clock.now() * 1000)
    await services.roll.change(lambda roll: msgspec.structs.replace(
        roll, even_ms=max(now, roll.even_ms + 1, roll.evened_ms + 1)))
    return web.json_response({"rebalance": "asked"}, status=202, headers=_PRIVATE)


# What is asked for.

async def _named(request: web.Request, kind: type[_Nothing]) -> tuple[Services, str]:
    services, name = services_of(request), request.match_info["name"]
    acted_on(request, store=name)
    await _body(request, kind)
    _require(services, name)
    return services, name


def _require(services: Services, name: str) -> None:
    if name not in services.stores.names:
        raise UnknownStore(f"there is no store {name!r}")


async def _body(request: web.Request, kind: type[_T]) -> _T:
    return decode(kind, await whole_body(request, BODY_MAX) or b"{}")


async def _add(request: web.Request, services: Services, settings: StoreSettings) -> str:
    """Make its place the store, and say that it is there; what the operator should know."""
    acted_on(request, store=settings.name)
    before = services.roll.roll.of(settings.name)
    if settings.name in services.stores.names:
        raise WrongState(f"there is a store {settings.name} already")
    if before is not None and before.removed and before.lost:
        await _require_forgotten(services, settings.name)
    try:
        note = await services.roll.start(settings)
        await _say(services, settings.name, lambda entry: RollEntry(
            entry.name, entry.at_ms, settings.url, settings.pool, dict(settings.labels),
            settings.password_file))
    except (SetupError, StoreUnavailable) as error:
        raise WrongState(str(error)) from None
    StoreEvents(services.events).added(settings.name, settings.url)
    return note


async def _say(services: Services, name: str, edit: Callable[[RollEntry], RollEntry]) -> None:
    now = int(services.clock.now() * 1000)

    def edited(roll: Roll) -> Roll:
        entry = roll.of(name) or RollEntry(name, now)
        return roll.said(msgspec.structs.replace(edit(entry), at_ms=now))

    await services.roll.change(edited)


def _spare(services: Services, name: str) -> None:
    """Raise WrongState if a policy would have too few stores without it."""
    draining = services.roll.roll.draining
    left = [one for one in services.roll.settings
            if one.name != name and one.name not in draining]
    for policy in services.policies.values():
        if name not in services.stores.members(policy):
            continue
        try:
            complete_policy(policy.name, Policy(policy.data, policy.codec.parity, policy.durable,
                                                policy.pool), left)
        except SetupError as error:
            raise WrongState(f"store {name} cannot be spared: without it, {error}") from None


async def _require_empty(services: Services, name: str) -> None:
    if name not in services.roll.roll.draining:
        raise WrongState(f"empty store {name} first: `zerostor stores drain {name}`; if its disk is"
                         " dead: `--lost`")
    left = await _named_by_records(services, name)
    if left:
        raise WrongState(f"{left} shards are on store {name} yet: `zerostor stores drain {name}"
                         " --wait` tells when it is empty")


async def _require_forgotten(services: Services, name: str) -> None:
    """Records that name a store that was given up would be believed again."""
    left = await _named_by_records(services, name)
    if left:
        raise WrongState(f"{left} shards of the store {name} that was given up are not rebuilt yet:"
                         " take another name")


async def _named_by_records(services: Services, name: str) -> int:
    """Shards that records name on a store; it takes a look at all records."""
    census = Census({name})
    await census.take(services.metadata)
    return census.left[name]


def _answer(services: Services, name: str, note: str = "") -> web.Response:
    entry = services.roll.roll.of(name)
    word = ("removed" if entry is not None and entry.removed
            else "draining" if entry is not None and entry.draining else "there")
    return web.json_response({"name": name, "store": word, "note": note}, headers=_PRIVATE)


# What is told.

async def _moves(services: Services) -> MovesState:
    try:
        return decode_moves(await services.board.published(BOARD_NAME))
    except ZerostorError:
        return MovesState()


def _row(store: JudgedStore, settings: StoreSettings, roll: Roll, moves: MovesState
         ) -> dict[str, object]:
    figures, draining = store.figures, settings.name in roll.draining
    drained = moves.draining.get(settings.name) if draining else None
    count = moves.stores.get(settings.name)
    down = store.condition is Condition.DOWN
    return {
        "name": settings.name, "url": settings.url, "pool": settings.pool,
        "labels": {**store.labels, **settings.labels}, "state": store.state.value,
        "condition": (Condition.DRAINING if draining and not down else store.condition).value,
        "since": store.since, "reason": store.reason,
        "total": figures.total, "free": figures.free,
        "read": _calls(figures.reads), "write": _calls(figures.writes),
        "errors": figures.reads.errors + figures.writes.errors,
        "shards": count.shards if count is not None else 0 if moves.counted else None,
        "lost": settings.name in moves.lost,
        "drain": None if drained is None else {
            name: getattr(drained, name) for name in drained.__struct_fields__}}


def _unknown(name: str, shards: int) -> dict[str, object]:
    none = _calls(CallFigures())
    return {"name": name, "url": "", "pool": "", "labels": {}, "state": "down",
            "condition": Condition.UNKNOWN.value, "since": 0.0,
            "reason": "records name it, and no settings do; if it is gone for good: `zerostor"
                      f" stores remove {name} --lost`",
            "total": None, "free": None, "read": none, "write": none, "errors": 0,
            "shards": shards, "lost": False, "drain": None}


def _calls(figures: CallFigures) -> dict[str, object]:
    return {"p50": figures.p50, "p99": figures.p99, "calls": figures.calls}


def _durability(services: Services, settings: Sequence[StoreSettings]) -> list[Durability]:
    return [durability(policy.name,
                       [_domain(one) for one in settings if one.pool == policy.pool],
                       policy.shards, policy.codec.parity)
            for policy in services.policies.values()]


def _domain(settings: StoreSettings) -> str:
    """What is lost at once. Folders are of this machine, whatever disk each is on, unless a label
    says otherwise.
    """
    if settings.folder and "host" not in settings.labels:
        return HERE
    return settings.host


def _told(found: Durability) -> dict[str, object]:
    return {"policy": found.policy, "domains": found.domains, "most": found.most,
            "losses": found.losses, "nines": round(found.nines, 1), "crowded": found.crowded}
