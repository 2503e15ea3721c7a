"""The routes of gateway/routes/telemetry.py and their answers, for the OpenAPI document."""

from __future__ import annotations

from gateway.api_operations import Operation, Parameter, json_answer
from gateway.api_schemas import Json, array, nullable, number, string, struct
from zerostor.core.limits import LISTED, LISTED_MAX
from zerostor.core.spread import LineKind, Task
from zerostor.core.telemetry import ENTRY_MAX
from zerostor.engine.allocation import Place

_AWAY = "`hub-away`: the node hub does not answer; `busy`: too much waits for its disk."
_OFF = "`nodes-off`: no node hub by the settings."
_UNKNOWN = "`unknown-stream`: nothing was ever appended to it; or `nodes-off`."
_BAD = "`bad-request`: the name of the stream, a time or the body is none."
_STREAM = Parameter("stream", "path", "1 to 48 of a-z 0-9 . _ -",
                    string("^[a-z0-9][a-z0-9._-]{0,47}$"), "shed")
_WHEN = "Seconds since 1970, or ISO 8601."
_FROM = Parameter("from", "query", f"Entries from then on. {_WHEN}", string(),
                  "2026-03-01T00:00:00Z")
_TO = Parameter("to", "query", f"Entries before then. {_WHEN}", string(), "2026-03-02T00:00:00Z")
_LIMIT = Parameter("limit", "query", "How many, the newest first.",
                   {"type": "integer", "minimum": 1, "maximum": LISTED_MAX, "default": LISTED})
_WHOLE = "integer"
_ENTRY: Json = {"schema": string(minLength=1)}

TELEMETRY_OPERATIONS = (
    Operation(
        "get", "/api/telemetry", "telemetryStreams", "telemetry", "The streams",
        "With how many of their chunks have all their copies on nodes.",
        {200: json_answer("All streams.", "Streams"), 404: _OFF, 503: _AWAY}, (),
        "'{base}/api/telemetry'"),
    Operation(
        "post", "/api/telemetry/{stream}", "telemetryAppend", "telemetry", "Append to a stream",
        f"The body is one entry, of at most {ENTRY_MAX} bytes; the stream is made by its first one."
        " The answer means that it survives a power cut of this host; nodes get it in full chunks.",
        {201: json_answer("It is kept.", "Appended"), 400: _BAD,
         403: "`not-allowed`: a browser asks this for a page of another site.", 404: _OFF,
         408: "Nothing came for a minute.",
         413: "`too-large`: more than 1 MiB.", 415: "Send the bytes without Content-Encoding.",
         503: _AWAY},
        (_STREAM,), "-d 't=20.5' '{base}/api/telemetry/shed'",
        {"required": True, "content": {"text/plain": _ENTRY, "application/octet-stream": _ENTRY}}),
    Operation(
        "get", "/api/telemetry/{stream}", "telemetryRead", "telemetry", "Read a stream",
        "The entries one after the other, as they came; with `Accept: application/x-ndjson` one a"
        " line, with its time. They come from the nodes, verified, else from the local copy.",
        {200: {"description": "The entries.", "content": {
            "text/plain": {}, "application/octet-stream": {}, "application/x-ndjson": {}}},
         400: _BAD, 404: _UNKNOWN, 503: "`object-unreadable`: no copy of a chunk is there now;"
                                        " `busy`: too many are reading; or `hub-away`."},
        (_STREAM, _FROM, _TO), "'{base}/api/telemetry/shed?from=2026-03-01T00:00:00Z'"),
    Operation(
        "delete", "/api/telemetry/{stream}", "telemetryRemove", "telemetry", "Remove a stream",
        "Its chunks go from nodes that are away as soon as they are back.",
        {200: json_answer("It is gone.", "StreamNamed"), 400: _BAD,
         403: "`not-allowed`: only programs on the gateway's own host may ask this.",
         404: _UNKNOWN, 503: _AWAY},
        (_STREAM,), "-X DELETE '{base}/api/telemetry/shed'"),
    Operation(
        "get", "/api/nodes/ledger", "nodeLedger", "nodes", "What owners of nodes earned",
        "With `lines=1` the newest lines of the ledger instead.",
        {200: json_answer("How they stand.", "Ledger"), 400: "`bad-request`: limit is no number.",
         404: _OFF, 503: _AWAY},
        (Parameter("lines", "query", "1: its lines.", string(enum=["0", "1"])),
         Parameter("owner", "query", "Lines of this owner only.", string(), "anna"),
         _LIMIT),
        "'{base}/api/nodes/ledger'"),
    Operation(
        "get", "/api/nodes/jobs", "nodeJobs", "nodes", "What is done with chunks of telemetry",
        "`writedfs` puts a chunk on a node, `replicatedfs` on another where a copy was lost,"
        " `md5dfs` looks whether it is still there, `deldfs` takes it away.",
        {200: json_answer("Now, and last.", "NodeJobs"), 400: "`bad-request`: limit is no number.",
         404: _OFF, 503: _AWAY}, (_LIMIT,), "'{base}/api/nodes/jobs'"),
    Operation(
        "get", "/api/nodes/chunks", "nodeChunks", "nodes", "Where chunks of telemetry are",
        "The newest chunks, and which nodes each is on or on its way to.",
        {200: json_answer("The newest first.", "NodeChunks"),
         400: "`bad-request`: limit is no number.", 404: _OFF, 503: _AWAY}, (_LIMIT,),
        "'{base}/api/nodes/chunks?limit=20'"),
)
_NAME = string(examples=["shed"])
_AT = number("Seconds since 1970, UTC.")
_JOB = struct(
    task=string(enum=[str(task) for task in Task]),
    at=number("Seconds since 1970, UTC, that it ended; 0 while it runs."), node=string(),
    stream=_NAME | {"description": "Empty where the chunk is forgotten."},
    number=number("Of the chunk.", _WHOLE),
    good={"type": "boolean", "description": "Whether it came out well."})
TELEMETRY_SCHEMAS: dict[str, Json] = {
    "NodeJobs": struct(running=array(_JOB), ended=array(_JOB), waiting={
        "type": "object", "additionalProperties": number("To be done.", _WHOLE),
        "description": "How many, by task."}),
    "NodeChunks": struct(chunks=array(struct(
        stream=_NAME, number=number(kind=_WHOLE), size=number("Bytes on a node.", _WHOLE),
        local={"type": "boolean", "description": "The hub has it as well."},
        missing=number("Copies that it lacks, and that are not on their way.", _WHOLE),
        copies={"type": "object", "description": "By node.", "additionalProperties": string(
            enum=[str(place) for place in Place])}))),
    "Streams": struct(streams=array(struct(
        name=_NAME, text={"type": "boolean"}, size=number("Bytes of payload.", _WHOLE),
        chunks=number("Full chunks.", _WHOLE),
        spread=number("Of these, with all their copies on nodes.", _WHOLE),
        waiting=number("Of these, without.", _WHOLE),
        waiting_since=nullable("number", "Seconds since 1970, UTC: since when the first of those"
                               " waits for a node; null: none does."),
        local=number("Of these, with a copy on the hub.", _WHOLE), first=_AT, last=_AT))),
    "Appended": struct(stream=_NAME, number=number("The chunk where it begins.", _WHOLE), at=_AT),
    "StreamNamed": struct(stream=_NAME),
    "Ledger": struct("owners", "lines", owners=array(struct(
        owner=string(description="@NODE stands for a node that is nobody's."),
        attempts=number("Copies to be written.", _WHOLE), successes=number("Proved.", _WHOLE),
        failures=number("Not.", _WHOLE), lost=number("Copies gone or wrong.", _WHOLE),
        chunks=number("Copies held now.", _WHOLE), hours=number("That copies were held."),
        share=number("Of good ones in the last 100 outcomes."),
        availability=number("Of its nodes, in the last 24 hours."),
        factor=number("User Performance Factor: by what the next chunk is given."),
        tokens=number("Earned.", _WHOLE))),
        lines=array(struct(
            at=_AT, owner=string(), node=string(), kind=string(enum=[str(k) for k in LineKind]),
            chunk=string(), tokens=number("Earned or lost.", _WHOLE),
            hours=number("That the copy was held, where it ends.")))),
}
