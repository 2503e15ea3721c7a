"""The route of gateway/routes/events.py and its answers, for the OpenAPI document."""

from __future__ import annotations

from gateway.api_operations import Operation, Parameter
from gateway.api_schemas import Json, array, number, ref, string, struct
from zerostor.core.events import EVENT_ID_MAX, EventKind, Severity, kind_words
from zerostor.core.limits import LISTED, LISTED_MAX, STATUS_WAIT_MAX

_ID: Json = {"type": "integer", "minimum": 0, "maximum": EVENT_ID_MAX}
LIVE = ("stores", "jobs", "nodes", "streams", "chunks", "figures", "repair", "scrub", "moves",
        "removal")
"""What a stream tells of besides events."""
_LIVE = "|".join(LIVE)
_KINDS = "|".join(sorted(kind_words()))
_TIME = "Seconds since 1970, UTC."
_SAMPLE: Json = {
    "id": 1_800_000_000_123, "at": 1_800_000_000.1, "since": 1_800_000_000.1,
    "severity": "failure", "kind": "store-down", "subject": "nas-3",
    "text": "store nas-3 is down: no answer", "count": 1, "origin": "",
    "fields": {"store": "nas-3"}}
_STREAM = """\
With `Accept: text/event-stream` the answer goes on while you listen (server-sent events): \
`event: event` with an Event each, and an `id` to go on from, in the header `Last-Event-ID`, which \
counts before `since`; `event: stores`, \
`jobs`, `nodes`, `streams`, `chunks`, `repair`, `scrub`, `moves`, `removal` whenever that has \
changed, as GET /api/stores, /api/jobs, /api/nodes, /api/telemetry, /api/nodes/chunks, \
/api/repairs and /api/scrub answer it; `event: figures` (Pulse) every two seconds. It ends when \
you may listen no more. Each stream counts as a request that waits."""

EVENT_OPERATIONS = (
    Operation(
        "get", "/api/events", "events", "operate", "What happened",
        "The newest events, or those after an id. Warnings and failures are there at once, normal"
        " ones once a minute; equal ones are counted together. " + _STREAM,
        {200: {"description": "Events, the eldest first.", "content": {
            "application/json": {"schema": ref("Events"),
                                 "example": {"events": [_SAMPLE], "next": 1_800_000_000_123}},
            "text/event-stream": {"schema": string()}}},
         400: "`bad-request`: a parameter that cannot be understood.",
         429: "`too-many-requests`: more wait than one address may have wait.",
         503: "The book of events cannot be read, or too many wait."},
        (Parameter("since", "query", "Those with a higher id, the eldest first. An id is about"
                   " milliseconds since 1970, so a time will do.", _ID, 1_800_000_000_000),
         Parameter("limit", "query", "How many; without `since` the newest.",
                   {"type": "integer", "minimum": 0, "maximum": LISTED_MAX, "default": LISTED}),
         Parameter("severity", "query", "Of this severity or worse.",
                   string(enum=[str(each) for each in Severity], default="normal"), "warning"),
         Parameter("kind", "query", "Kinds, or the word before the - of some, with commas between"
                   " them.", string(f"^(({_KINDS})(,({_KINDS}))*)?$"), "store,job-failed"),
         Parameter("wait", "query", "Seconds to wait for the first one after `since`; more than"
                   f" {STATUS_WAIT_MAX:.0f} counts as {STATUS_WAIT_MAX:.0f}.",
                   {"type": "number", "minimum": 0, "default": 0}),
         Parameter("live", "query", "Of a stream: what to tell of besides events, with commas"
                   " between them; all of it where nothing is said.",
                   string(f"^(({_LIVE})(,({_LIVE}))*)?$"),
                   "stores,jobs")),
        "-N -H 'Accept: text/event-stream' '{base}/api/events?live='"),
)
EVENT_SCHEMAS: dict[str, Json] = {
    "Event": struct(
        id=_ID, at=number(_TIME),
        since=number("When the first of several happened. " + _TIME),
        severity=string(enum=[str(each) for each in Severity]),
        kind=string(enum=[str(kind) for kind in EventKind]),
        subject=string(description="The store, object, job, node or home that it is about."),
        text=string(description="For a person."),
        count=number("How often it happened.", "integer"),
        origin=string(description="The host where it happened; empty: this one."),
        fields={"type": "object", "description": "The same for programs.",
                "additionalProperties": {"type": ["string", "number", "boolean"]}}),
    "Pulse": struct(
        at=number(_TIME), received=number("Bytes of bodies that came."),
        sent=number("Bytes of bodies that went."),
        stored=number("Jobs that the workers now alive stored.", "integer"),
        stored_bytes=number("Bytes of these.", "integer"),
        failed=number("Jobs that they gave up.", "integer"),
        downloaded=number("Downloads that ended."),
        downloads=array(array(number()) | {
            "description": "Seconds, and how many took no longer."})),
    "Events": struct(events=array(ref("Event")), next=_ID | {
        "description": "Pass this as `since` to go on."}),
}
