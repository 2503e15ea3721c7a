"""Removing objects, in the OpenAPI document."""

from __future__ import annotations

from gateway.api_operations import Operation, Parameter, json_answer
from gateway.api_schemas import SAMPLE_HASH, Json, array, asked, nullable, ref, string, struct
from zerostor.core.limits import EXTENSION_MAX, METADATA_ID_MAX
from zerostor.engine.removal import LISTED_MAX

_LETTERS = r"[A-Za-z0-9]+(\.[A-Za-z0-9]+)*"
_HASH = Parameter("hash", "path", "`HASH` or `HASH.ext`.",
                  string(rf"^[0-9a-fA-F]{{56}}(\.{_LETTERS})?$",
                         maxLength=56 + 1 + EXTENSION_MAX), SAMPLE_HASH)
_NOTHING: Json = {"required": False, "content": {"application/json": {"schema": asked()}}}
_JSON = "-X POST -H 'Content-Type: application/json' '{base}/api/objects/" + SAMPLE_HASH
_ANSWERS: dict[int, Json | str] = {
    200: json_answer("How it stands now.", "Removal"),
    400: "`bad-link`, `bad-extension`, `bad-request`: a link or body that is none.",
    403: "`not-allowed`: who did not upload it, and is no admin.",
    404: "`unknown-object`: no object has this hash.",
    503: "The metadata is away, or this gateway only reads; try again after `Retry-After`.",
}
_LATE: dict[int, Json | str] = {410: "`removed`: too late, its bytes are deleted."}
_WRONG: dict[int, Json | str] = {
    409: "`wrong-state`: it is in quarantine where it should be removed, or the other way round."}


def _act(name: str, title: str, text: str, more: dict[int, Json | str]) -> Operation:
    return Operation("post", f"/api/objects/{{hash}}/{name}", name, "remove", title, text,
                     _ANSWERS | more, (_HASH,), f"{_JSON}/{name}'", _NOTHING)


REMOVAL_OPERATIONS = (
    Operation(
        "delete", "/api/objects/{hash}", "remove", "remove", "Remove an object",
        "From now on its link answers 410, here and on all slaves. Its bytes are deleted once the"
        " grace (`keeper.removal_grace`) is over; until then it can be restored. For an admin, or"
        " who uploaded it.",
        _ANSWERS, (_HASH,), "-X DELETE '{base}/api/objects/" + SAMPLE_HASH + "'"),
    _act("restore", "Take a removal back", "As long as its bytes are there. Who uploaded an object"
         " restores what he removed himself.", _LATE | _WRONG),
    _act("quarantine", "Darken a link", "It answers 410, and nothing is deleted until it is"
         " released.", _LATE),
    _act("release", "End a quarantine", "The link leads to its object again.", _LATE | _WRONG),
    Operation(
        "get", "/api/removed", "removed", "remove", "List what is removed",
        "What can be restored or released, by metadata id. Records are looked at in portions: go on"
        " with `from` = `next` until that is null, also where an answer has no row.",
        {200: json_answer("A portion.", "Removals"), 400: "`bad-request`: a parameter.",
         503: _ANSWERS[503]},
        (Parameter("from", "query", "The first metadata id.",
                   {"type": "integer", "minimum": 0, "maximum": METADATA_ID_MAX, "default": 0}, 0),
         Parameter("limit", "query", "Most rows.",
                   {"type": "integer", "minimum": 0, "maximum": LISTED_MAX, "default": 100}, 100)),
        "'{base}/api/removed'"),
)
REMOVAL_SCHEMAS: dict[str, Json] = {
    "Removal": struct(
        hash=string("^[0-9a-f]{56}$"), link=string(),
        state=string(enum=["stored", "removed", "quarantined", "reclaiming", "reclaimed"],
                     description="reclaiming: its bytes are being deleted; reclaimed: they are."),
        at=nullable("number", "When that began, in epoch seconds."),
        by=nullable("string", "Who asked for it: a key in hex, or `secret`."),
        until=nullable("number", "Until then it can be restored for sure, in epoch seconds."),
        size=nullable("integer", "Bytes, while they are there."),
        private={"type": "boolean"}),
    "Removals": struct(removed=array(ref("Removal")),
                       next=nullable("integer", "Where the next portion begins.")),
}
