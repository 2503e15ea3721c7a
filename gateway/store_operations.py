"""Stores, and what is said of them, in the OpenAPI document."""

from __future__ import annotations

from gateway.api_operations import Operation, Parameter, json_answer
from gateway.api_schemas import Json, array, asked, nullable, number, ref, string, struct
from zerostor.core.health import Condition

_NAMED = "^[a-z0-9][a-z0-9._-]{0,31}$"
_STORE = Parameter("name", "path", "The store.", string(_NAMED), "nas-1")
_JSON = "-X POST -H 'Content-Type: application/json' -d "
_ANSWERS: dict[int, Json | str] = {
    200: json_answer("How it stands now.", "StoreSaid"),
    400: "`bad-request`: a body that cannot be understood, and why.",
    403: "`not-allowed`: only an admin, or in mode public a program on the gateway's own host.",
    404: "`unknown-store`: there is none of that name.",
    409: "`wrong-state`: it cannot be, and why: too few stores would be left, or shards are there.",
    413: "`too-large`: more than 64 KiB.",
    503: "The metadata is away, or this gateway only reads; try again after `Retry-After`.",
}


def _body(schema: str, *, needed: bool) -> Json:
    return {"required": needed, "content": {"application/json": {"schema": ref(schema)}}}


def _said(name: str, title: str, text: str, body: str = "Nothing", sample: str = "{}") -> Operation:
    return Operation(
        "post", f"/api/stores/{{name}}/{name}", f"{name}Store", "operate", title, text, _ANSWERS,
        (_STORE,), f"{_JSON}'{sample}' '{{base}}/api/stores/nas-1/{name}'",
        _body(body, needed=body == "AddStore"))


STORE_OPERATIONS = (
    Operation(
        "get", "/api/stores", "stores", "operate", "List the stores",
        "Each store: how it is, its room, how quickly it answers, what lies there, how emptying it"
        " goes; what may be lost; and what the metadata server is.",
        {200: json_answer("All stores.", "Stores")}, (), "'{base}/api/stores'"),
    Operation(
        "post", "/api/stores", "addStore", "operate", "Add a store",
        "Its folder or namespace is made and marked as this store's, or was so before. All"
        " processes use it within seconds, with no restart; it is kept in DATA/stores.json.",
        {status: answer for status, answer in _ANSWERS.items() if status != 404}, (),
        _JSON + """'{"name": "nas-2", "url": "dir:///mnt/nas2"}' '{base}/api/stores'""",
        _body("AddStore", needed=True)),
    Operation(
        "post", "/api/stores/rebalance", "rebalanceStores", "operate", "Fill all stores alike",
        "Shards move from the fullest stores to the emptiest, until each holds its part within a"
        " few per cent; no two shards of an object come closer together.",
        {202: json_answer("The keeper does it.", "Rebalance"),
         **{status: _ANSWERS[status] for status in (400, 403, 413, 503)}}, (),
        _JSON + "'{}' '{base}/api/stores/rebalance'",
        _body("Nothing", needed=False)),
    _said("drain", "Empty a store", "Nothing new goes there, and the keeper moves what is there to"
          " others. `drain.empty` of it tells when no record names it: then it may be unplugged."),
    _said("undrain", "Keep a store after all", "It gets new shards again."),
    _said("remove", "Remove a store", "Once it is empty. With `lost` at once: what is there counts"
          " as lost, and is rebuilt on others.", "RemoveStore", '{"lost": false}'),
    _said("replace", "Replace a store by a new one", "Adds the new one, empties the store into it,"
          " and removes it when it is empty; a store that is down is rebuilt there.", "AddStore",
          '{"name": "nas-2", "url": "dir:///mnt/nas2"}'),
)
_CALLS = struct(p50=number("Seconds, of the last calls of this gateway; 0 of none."),
                p99=number("Seconds."), calls=number("Calls these are of.", "integer"))
_DRAIN = struct(
    shards=number("Left at the last pass, and less what moved since.", "integer"),
    bytes=number("Of them.", "integer"), moved=number("Since this keeper leads.", "integer"),
    moved_bytes=number("Of them.", "integer"),
    waiting=number("Packs in volumes that may be written to yet.", "integer"),
    rebuilding=number("That could not be read, and are made again.", "integer"),
    eta=number("Seconds that are left; 0 for unknown."),
    empty={"type": "boolean", "description": "No record names it: it may be unplugged."},
    problem=string(description="Why it does not get on, or empty."))
STORE_SCHEMAS: dict[str, Json] = {
    "Store": struct(
        name=string(examples=["nas-1"]), url=string(examples=["dir:///mnt/nas1"]),
        pool=string(examples=["main"]),
        labels={"type": "object", "additionalProperties": string()},
        state=string(enum=["up", "suspect", "down"],
                     description="For the next call. suspect: failed lately, still tried."),
        condition=string(enum=[each.value for each in Condition],
                         description="As several looks agree."),
        since=number("Of the condition, seconds since 1970."),
        reason=string(description="Why it is not up."),
        total=nullable("integer", "Bytes in all, if the store knows."),
        free=nullable("integer", "Bytes free, if the store knows."),
        read=_CALLS, write=_CALLS,
        errors=number("Calls that failed since this gateway began.", "integer"),
        shards=nullable("integer", "That records name, at the last count; null before it."),
        lost={"type": "boolean", "description": "Down for so long that it is rebuilt elsewhere."},
        drain=_DRAIN | {"type": ["object", "null"], "description": "How emptying it goes."}),
    "Stores": struct(
        stores=array(ref("Store")), metadata=ref("Metadata"), archive=ref("Archive"),
        uploads={"type": "boolean", "description": "Whether it takes any: no slave."},
        counted=number("When shards were counted last, seconds since 1970; 0 never."),
        unwritten=number("Shards that no store took yet.", "integer"),
        rebalance=struct("moved", "moved_bytes", "bytes", "running", "spread", "problem",
                         running={"type": "boolean"}, bytes=number("To be moved yet.", "integer"),
                         moved=number("Shards.", "integer"), moved_bytes=number("", "integer"),
                         spread=number("Per cent by which the fullest is above its part."),
                         problem=string()),
        rebalance_done={"type": "boolean", "description": "Nothing of what was asked is left."},
        durability=array(struct(
            policy=string(), domains=number("Hosts, or whatever is lost at once.", "integer"),
            most=number("Shards of an object on one of them.", "integer"),
            losses=number("Of them that take an object along.", "integer"),
            nines=number("Of a year: a domain is lost with 0.5% a year, and rebuilt in 7 days."),
            crowded={"type": "boolean", "description": "More than 2 shards on one."}))),
    "StoreSaid": struct(name=string(_NAMED), store=string(enum=["there", "draining", "removed"]),
                        note=string(description="What the operator should know, or empty.")),
    "Rebalance": struct(rebalance=string(enum=["asked"])),
    "Nothing": asked(),
    "AddStore": asked(
        "pool", "labels", "password_file", name=string(_NAMED, examples=["nas-2"]),
        url=string("^(dir|zdb|zdb\\+unix|node)://.+$", examples=["dir:///mnt/nas2"]),
        pool=string(_NAMED, default="main"),
        labels={"type": "object", "additionalProperties": string(), "examples": [{"host": "nas"}]},
        password_file=string(description="On each host, with the password of its 0-db.")),
    "RemoveStore": asked("lost", lost={"type": "boolean", "default": False}),
}
