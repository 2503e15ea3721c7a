"""The scrub, in the OpenAPI document."""

from __future__ import annotations

from gateway.api_operations import Operation, json_answer
from gateway.api_schemas import Json, array, asked, number, ref, string, struct
from zerostor.core.scrub import Action, Mode

_AWAY = "`queue-unavailable`: Redis is away; try again after `Retry-After`."
_MODE: Json = {"type": ["string", "null"], "enum": [*(mode.value for mode in Mode), None],
               "description": "soft: ends of shards; hard: every byte. Null: hard, or all to stop."}

SCRUB_OPERATIONS = (
    Operation(
        "get", "/api/scrub", "scrub", "operate", "How the scrub goes",
        "The passes over all records: those under way, the last that ended, and shards that no"
        " record names. As the keeper said it last.",
        {200: json_answer("What the keeper said.", "Scrub"), 503: _AWAY}, (),
        "'{base}/api/scrub'"),
    Operation(
        "post", "/api/scrub", "scrubAct", "operate", "Start, pause, resume or stop it",
        "A pass that is asked for goes as fast as it may. `remove-orphans` looks for shards that no"
        " record names, and removes those that were found a day ago.",
        {202: json_answer("The keeper is told.", "ScrubTold"),
         400: "`bad-request`: no such action or mode.", 503: _AWAY}, (),
        "-X POST -H 'Content-Type: application/json' -d '{\"action\": \"start\"}'"
        " '{base}/api/scrub'",
        {"required": True, "content": {"application/json": {
            "schema": asked("mode", action=string(enum=[action.value for action in Action]),
                            mode=_MODE),
            "example": {"action": "start", "mode": "hard"}}}}),
)
_COUNT = number("", "integer")
SCRUB_SCHEMAS: dict[str, Json] = {
    "ScrubPass": struct(
        mode=string(enum=[mode.value for mode in Mode]),
        begun=number("Epoch seconds."), ended=number("The same; 0 while it is under way."),
        asked={"type": "boolean", "description": "Begun by hand."},
        stopped={"type": "boolean"}, next_id=_COUNT, last_id=_COUNT, records=_COUNT, sets=_COUNT,
        size=number("Bytes of shards.", "integer"), missing=_COUNT, corrupt=_COUNT,
        away=number("Shards on stores that could not be asked.", "integer"),
        unreadable=number("Stripe sets that cannot be read.", "integer"),
        unknown=number("Records that cannot be read.", "integer"), repairs=_COUNT,
        orphans={"type": ["integer", "null"], "description": "Null where nobody looked."}),
    "Orphan": struct(store=string(), key=string(), first_seen=number("Epoch seconds.")),
    "Scrub": struct(
        state=string(enum=["running", "paused", "idle", "unknown"]),
        mode=string(enum=["", *(mode.value for mode in Mode)]),
        progress=number("0 to 1, of the pass that is worked on."),
        eta={"type": ["number", "null"], "description": "Seconds until it ends."},
        found=number("Shards that it found wrong.", "integer"),
        orphans=number("Shards that no record names, found a day ago or more.", "integer"),
        young=number("Those found since.", "integer"), removed=_COUNT,
        paused={"type": "boolean"},
        held_back=string(description="Why it rests more than it works."),
        rate=number("Bytes a second."), updated=number("Epoch seconds."),
        passes=array(ref("ScrubPass")), last=array(ref("ScrubPass")),
        listed=array(ref("Orphan"))),
    "ScrubTold": struct(told=string(), status=string()),
}
