"""Checks and repairs, in the OpenAPI document."""

from __future__ import annotations

from gateway.api_operations import Operation, Parameter, json_answer
from gateway.api_schemas import (
    SAMPLE_HASH,
    SAMPLE_JOB,
    Json,
    array,
    asked,
    nullable,
    number,
    string,
    struct,
)
from gateway.routes.repair import PORTION, PORTION_MAX
from zerostor.core.limits import EXTENSION_MAX, METADATA_ID_MAX

_LETTERS = r"[A-Za-z0-9]+(\.[A-Za-z0-9]+)*"
_HASH = Parameter("hash", "path", "`HASH` or `HASH.ext`.",
                  string(rf"^[0-9a-fA-F]{{56}}(\.{_LETTERS})?$",
                         maxLength=56 + 1 + EXTENSION_MAX), SAMPLE_HASH)
_DRY_RUN = Parameter("dry_run", "query", "1: say what would be done, and do nothing.",
                     string(enum=["0", "1"], default="0"), "1")
_PORTION = (
    Parameter("from", "query", "The first metadata id.",
              {"type": "integer", "minimum": 0, "maximum": METADATA_ID_MAX, "default": 0}, 0),
    Parameter("limit", "query", "Most stripe sets; hard checks take fewer.",
              {"type": "integer", "minimum": 0, "maximum": PORTION_MAX, "default": PORTION}, 500),
    Parameter("mode", "query", "How closely to look.",
              string(enum=["soft", "hard"], default="soft"), "soft"))
_BAD_QUERY = "`bad-request`: a parameter."
_BACKEND = "Something behind the gateway is away; try again after `Retry-After` seconds."

REPAIR_OPERATIONS = (
    Operation(
        "post", "/api/repair/{hash}", "repair", "operate", "Make an object whole",
        "Every shard that is missing or wrong is made again, by the keeper; ask the job how it"
        " went. Small objects share their shards: what is repaired is all of them. With `dry_run`"
        " every byte is read and what would be done is answered at once.",
        {202: json_answer("Asked for.", "Accepted",
                          {"job": SAMPLE_JOB, "status": f"/api/status/{SAMPLE_JOB}"}),
         200: json_answer("What would be done.", "Repair"),
         400: "`bad-link`, `bad-extension` or `bad-request`.",
         404: "`unknown-object`: no object has this hash.",
         410: "`removed`: the object behind this link was removed, or is in quarantine.",
         503: _BACKEND},
        (_HASH, _DRY_RUN), "-X POST '{base}/api/repair/" + SAMPLE_HASH + "'"),
    Operation(
        "get", "/api/repairs", "repairs", "operate", "See how repairs go",
        "What the keeper did since it leads, and what waits, by how few losses it can still take.",
        {200: json_answer("How they go.", "Repairs"), 503: _BACKEND}, (), "'{base}/api/repairs'"),
    Operation(
        "get", "/api/check", "check_all", "operate", "Check everything",
        "A portion of what is stored: go on with `from` = `next` until that is null.",
        {200: json_answer("What was found.", "Survey"), 400: _BAD_QUERY, 503: _BACKEND},
        _PORTION, "'{base}/api/check?limit=500'"),
    Operation(
        "post", "/api/repairs", "repair_all", "operate", "Repair everything",
        "As a check of everything; what is not healthy is to be repaired, the most endangered"
        " first.",
        {200: json_answer("What was found, and asked for.", "Survey"), 400: _BAD_QUERY,
         503: _BACKEND},
        (*_PORTION, _DRY_RUN),
        "-X POST -H 'Content-Type: application/json' '{base}/api/repairs?limit=500'",
        {"required": False, "content": {"application/json": {"schema": asked()}}}),
)

_STATE = string(enum=["healthy", "degraded", "unreadable"])
_COUNT = number(kind="integer")
REPAIR_SCHEMAS: dict[str, Json] = {
    "Repair": struct(
        metadata_id=number("Of the record whose shards they are.", "integer"),
        state=string(enum=["healthy", "repaired", "degraded", "unreadable", "gone"],
                     description="degraded: something is left, see `left`."),
        good=number("Good shards, as they were found.", "integer"),
        needed=number("Good shards that bring it back.", "integer"), total=_COUNT,
        mended=array(struct(
            shard=_COUNT, store=string(description="Where it is now, or would be."),
            before=string(description="Where it was to be; empty if it was never written."),
            was=string(enum=["missing", "corrupt", "unwritten", "lost", "leaving", "unknown"]),
            reason=string())),
        left=array(string(description="What could not be done, and why.")),
        read=number("Bytes.", "integer"), written=number("Bytes.", "integer")),
    "Repairs": struct(
        running={"type": "boolean", "description": "Whether a keeper was heard of late."},
        done=number("Stripe sets since the keeper leads.", "integer"),
        failed=number("Those that could not be repaired.", "integer"),
        shards=number("Shards made again.", "integer"),
        bytes_read=_COUNT, bytes_written=_COUNT,
        waiting=number("Stripe sets that wait in the keeper.", "integer"),
        asked=number("Those on the board besides.", "integer"),
        by_spare=array(struct(
            spare={"type": "integer", "description": "Good shards beyond the needed ones; below 0"
                   " of what is lost."}, sets=_COUNT)),
        current=array(number("A metadata id.", "integer")),
        rate=number("Bytes a second of late, read and written."),
        eta=nullable("number", "Seconds until none waits."),
        scanned=number("When all records were looked through last, epoch seconds."),
        found=number("Stripe sets to be repaired, then.", "integer"),
        short={"type": "object", "additionalProperties": _COUNT,
               "description": "Stripe sets by how many shards they lacked, then."},
        least_spare=nullable("integer", "Losses that the most endangered could take, then."),
        at=number("When the keeper said so, epoch seconds; 0: none did.")),
    "Survey": struct(
        next=nullable("integer", "Where the next portion begins; null at the end."),
        of=nullable("integer", "The id that a next record would get."),
        sets=number("Stripe sets looked at.", "integer"),
        objects=number("Objects in them.", "integer"), healthy=_COUNT,
        degraded=array(struct(lost=number("Shards lost.", "integer"), objects=_COUNT)),
        unreadable=_COUNT,
        damaged=number("Records that cannot be decoded.", "integer"),
        bad=array(struct(
            id=number("Metadata id.", "integer"),
            link=nullable("string", "Of an object with shards of its own; null of a pack."),
            objects=_COUNT, state=_STATE, good=_COUNT, needed=_COUNT, total=_COUNT,
            content=nullable("string"),
            faults=array(struct(shard=_COUNT, store=string(),
                                state=string(enum=["missing", "corrupt", "unknown"]),
                                detail=string()))))),
}
