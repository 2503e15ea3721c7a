"""The routes of gateway/routes/nodes.py and their answers, for the OpenAPI document."""

from __future__ import annotations

from gateway.api_operations import Operation, Parameter, json_answer
from gateway.api_schemas import Json, array, asked, nullable, number, ref, string, struct
from zerostor.core.limits import LISTED, LISTED_MAX
from zerostor.core.nodes import NodeEventKind

_REFUSED = "`not-allowed`: only programs on the gateway's own host may ask this."
_AWAY = "`hub-away`: the node hub does not answer; or `node-away`: the node is not connected."
_OFF = "`nodes-off`: no node hub by the settings."
_UNKNOWN = "`unknown-node`: no such node; or `nodes-off`."
_BAD = "`bad-request`: the body cannot be understood, and why."
_LARGE = "`too-large`: more than 64 KiB."
_JSON = "-H 'Content-Type: application/json' -d "
_LIMIT = Parameter("limit", "query", "How many, the newest first.",
                   {"type": "integer", "minimum": 1, "maximum": LISTED_MAX, "default": LISTED})
_NODE = Parameter("node", "query", "Of this node only.",
                  string("^([a-z0-9][a-z0-9._-]{0,31})?$"), "shed-1")


def _asked(name: str, title: str, text: str, answer: str, body: str, sample: str) -> Operation:
    return Operation(
        "post", f"/api/nodes/{name}", f"node{name.capitalize()}", "nodes", title, text,
        {200: json_answer("What came of it.", answer), 400: _BAD, 403: _REFUSED, 404: _UNKNOWN,
         413: _LARGE, 503: _AWAY},
        (), f"{_JSON}'{sample}' '{{base}}/api/nodes/{name}'",
        {"required": True, "content": {"application/json": {"schema": ref(body)}}})


NODE_OPERATIONS = (
    Operation(
        "get", "/api/nodes", "nodes", "nodes", "The nodes, and how they are",
        "Of one that is away only what the hub knows of it.",
        {200: json_answer("All nodes.", "Nodes"), 404: _OFF, 503: _AWAY}, (), "'{base}/api/nodes'"),
    Operation(
        "get", "/api/nodes/events", "nodeEvents", "nodes", "What happened to nodes",
        "Also names that dialed in and are nobody's.",
        {200: json_answer("Events, the newest first.", "NodeEvents"), 400: _BAD, 404: _OFF,
         503: _AWAY}, (_NODE, _LIMIT), "'{base}/api/nodes/events?node=shed-1'"),
    _asked("add", "Add a node", "The answer has its keys, and nothing shows them again: they go"
           " into the device.", "NodeAdded", "AddNode", '{"name": "shed-1", "owner": "anna"}'),
    _asked("remove", "Forget a node", "Its link ends and its key is worth nothing.", "NodeNamed",
           "NamedNode", '{"name": "shed-1"}'),
    _asked("rotate", "Give a node a new key", "Over its link, now or when it is back. The old one"
           " is good until the node has used the new one. `by_hand`: the answer tells the key, to"
           " be flashed into a node that has none of ours.", "NodeRotated", "RotateNode",
           '{"name": "shed-1"}'),
    _asked("wipe", "Remove all chunks of a node", "`format` makes the file system of its flash"
           " anew, whatever is on it.", "Node", "WipeNode", '{"name": "shed-1"}'),
    _asked("update", "Give a node new firmware", "The hub's own, signed with the node's key for it."
           " The node starts with it, and goes back to the one before if that does not reach the"
           " hub.", "NodeNamed", "NamedNode", '{"name": "shed-1"}'),
    _asked("verify", "Look whether a node's chunks are whole", "Some at a time: ask again with"
           " `after` until it is null.", "NodeVerified", "VerifyNode", '{"name": "shed-1"}'),
)
_NAME = string(examples=["shed-1"])
_NAMED = string("^[a-z0-9][a-z0-9._-]{0,31}$", examples=["shed-1"])
_WHOLE = "integer"
_KEYS: dict[str, Json] = {
    "hub": ref("NodeHub"), "key": string(description="64 hex digits."),
    "update_key": string(description="By which its firmware is signed.")}
_HERE: dict[str, Json] = {
    "since": number("Seconds since 1970, UTC: when it dialed in."),
    "firmware": string(description="Its version."),
    "size": number("Bytes of its flash for chunks.", _WHOLE),
    "free": number("Bytes of that.", _WHOLE),
    "chunks": number("How many it keeps.", _WHOLE),
    "heap": number("Bytes of its memory that are free.", _WHOLE),
    "heap_lowest": number("The least that was free since its start.", _WHOLE),
    "uptime": number("Seconds since its start.", _WHOLE),
    "boots": number("Its starts so far.", _WHOLE),
    "writes": number("Chunks written since its start.", _WHOLE),
    "years_left": nullable("number", "Until its flash is worn, if it goes on as in the last"
                           " day; null: nothing was written then."),
    "estimate": {"type": "boolean", "description": "`free` is not counted yet."},
    "needs_format": {"type": "boolean", "description": "Its flash holds something else."},
    "on_trial": {"type": "boolean", "description": "It tries new firmware."}}
_NODE_FIELDS: dict[str, Json] = {
    "name": _NAME, "owner": string(description="Whose it is."),
    "site": string(description="Where it stands."), "added": number("Seconds since 1970, UTC."),
    "wipe": {"type": "boolean", "description": "It starts empty whenever it dials in."},
    "keys": number("Keys that are good; 2 while a new one is on its way.", _WHOLE),
    "unknown": nullable("integer", "Chunks that the hub does not know; null: not counted yet."),
    "state": string(enum=["connected", "away"]), "last_event": ref("LastNodeEvent"), **_HERE}
_EVENT: dict[str, Json] = {
    "at": number("Seconds since 1970, UTC."), "node": _NAME,
    "kind": string(enum=[str(kind) for kind in NodeEventKind]),
    "detail": string(description="For a person.")}
NODE_SCHEMAS: dict[str, Json] = {
    "NodeHub": struct(address=string(description="Where it listens.", examples=["0.0.0.0:7777"]),
                      heartbeat=number("Seconds between signs of life.")),
    "NodeEvent": struct(**_EVENT),
    "LastNodeEvent": struct(**_EVENT) | {"type": ["object", "null"]},
    "Node": struct(*_HERE, **_NODE_FIELDS),
    "Nodes": struct(hub=ref("NodeHub"), nodes=array(ref("Node"))),
    "NodeEvents": struct(events=array(ref("NodeEvent"))),
    "NodeAdded": struct(*_HERE, **_NODE_FIELDS, **_KEYS),
    "NodeNamed": struct(name=_NAME),
    "NodeRotated": struct("hub", "key", "update_key", name=_NAME, handed_over={
        "type": "boolean", "description": "Whether it has the new key already."}, **_KEYS),
    "NodeVerified": struct(
        name=_NAME, good=number("Chunks that are whole.", _WHOLE),
        bad=array(struct(chunk=string(), reason=string())),
        after=nullable("string", "Ask again with this; null: that was the last one.")),
    "NamedNode": asked(name=_NAMED),
    "RotateNode": asked("by_hand", name=_NAMED, by_hand={"type": "boolean"}),
    "AddNode": asked("owner", "site", "wipe", name=_NAMED, owner=string(), site=string(),
                      wipe={"type": "boolean"}),
    "WipeNode": asked("format", name=_NAMED, format={"type": "boolean"}),
    "VerifyNode": asked("after", name=_NAMED, after=string()),
}
