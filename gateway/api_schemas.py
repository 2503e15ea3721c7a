"""What answers are made of, as JSON schemas: the components of the OpenAPI document."""

from __future__ import annotations

from typing import Any, TypeAlias

from zerostor import __version__

Json: TypeAlias = dict[str, Any]

SAMPLE_HASH = "5f1d2a9c8b7e6f504132a4b5c6d7e8f90123456789abcdef0000002a"
SAMPLE_JOB = "9b2f6c1e4d8a7b305f6e1c2d3a4b5c6d"


def string(pattern: str = "", **more: object) -> Json:
    """Text, of a pattern if one is given; more: keywords of JSON schema."""
    return {"type": "string"} | ({"pattern": pattern} if pattern else {}) | more


def struct(*optional: str, **properties: Json) -> Json:
    """An object; its properties are there but for those named in `optional`."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def asked(*optional: str, **properties: Json) -> Json:
    """As struct, for the body of a request: what it does not name is refused, not ignored."""
    return struct(*optional, **properties) | {"additionalProperties": False}


def ref(name: str) -> Json:
    """One of SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Json) -> Json:
    """A list of these."""
    return {"type": "array", "items": items}


def nullable(kind: str, text: str = "") -> Json:
    """A value of that JSON type, or null."""
    return {"type": [kind, "null"]} | ({"description": text} if text else {})


def number(text: str = "", kind: str = "number") -> Json:
    """A number, 0 or more; kind: number or integer."""
    return {"type": kind, "minimum": 0} | ({"description": text} if text else {})


_HASH_TEXT = string("^[0-9a-f]{56}$", examples=[SAMPLE_HASH],
                    description="48 hex digits of BLAKE3-192 over the bytes (keyed with a secret,"
                                " if it is private), then 8 hex digits of the metadata id.")
_PRIVATE: Json = {"type": "boolean",
                  "description": "Whether who knows the bytes still cannot find the link."}
_JOB_TEXT = string("^[0-9a-f]{32}$", examples=[SAMPLE_JOB])
_LINK_TEXT = string(examples=[f"/{SAMPLE_HASH}.jpg"], description="Where the object is served.")
_STATE = string(enum=["ACTIVE", "WAITING", "DONE", "ERROR"])
SCHEMAS: dict[str, Json] = {
    "Stored": struct("private", hash=_HASH_TEXT, link=_LINK_TEXT, job=_JOB_TEXT,
                     private=_PRIVATE),
    "Accepted": struct("private", job=_JOB_TEXT,
                       status=string(description="Ask here how it goes.",
                                     examples=[f"/api/status/{SAMPLE_JOB}"]),
                       private=_PRIVATE),
    "Job": struct(
        "repair",
        job=_JOB_TEXT,
        state=_STATE | {"description": "WAITING is ACTIVE with a reason why not yet, in `detail`."},
        progress=number("0 to 1.") | {"maximum": 1},
        link=nullable("string", "Where it is served, once DONE."),
        hash=nullable("string", "Its hash, once DONE."),
        detail=string(description="Why it waits or failed, for a person."),
        repair={"anyOf": [ref("Repair"), {"type": "null"}],
                "description": "What came of it, where the job is a repair."}),
    "Jobs": struct(
        waiting=number("Jobs that no worker has taken yet.", "integer"),
        running=number("Jobs that a worker holds.", "integer"),
        delayed=number("Jobs that are tried again later.", "integer"),
        oldest=number("Seconds since the oldest waiting or running job was queued."),
        workers=array(string(description="A worker that is alive.")),
        spool=number("Accepted uploads that are not stored yet.", "integer"),
        failed=array(ref("Job"))),
    "Object": struct(
        hash=_HASH_TEXT, link=_LINK_TEXT, size=number("Bytes.", "integer"),
        ext=string(description="Extension without the dot, may be empty."),
        policy=string(description="The policy it was stored under.", examples=["default"]),
        created=number("Seconds since 1970, UTC."), private=_PRIVATE),
    "Shard": struct(
        index=number(kind="integer"), store=string(description="Empty if it was never written."),
        state=string(enum=["present", "missing", "corrupt", "unknown"],
                      description="unknown: its store cannot be asked now."),
        detail=string(description="What is wrong, for a person.")),
    "Check": struct(
        hash=_HASH_TEXT, mode=string(enum=["soft", "hard"]), private=_PRIVATE,
        state=string(enum=["healthy", "degraded", "unreadable"],
                      description="degraded: readable, with less to lose."),
        good=number("Shards that are present.", "integer"),
        needed=number("Shards that bring the object back.", "integer"),
        total=number("Shards in all.", "integer"),
        content=nullable("string", "What a hard check found of the whole: `good`, or why not."),
        shards=array(ref("Shard"))),
    "Follower": struct(
        server=string(description="The slave's id."),
        address=string(description="Where it listens itself, or empty."),
        behind_bytes=number("Bytes of the log that it does not have.", "integer"),
        behind_seconds=number("Since it last had everything.")),
    "Metadata": struct(
        role=string(enum=["master", "slave"]), server=string(description="Its id."),
        epoch=number("Grows by one with each promotion.", "integer"),
        file=number("Of the log, where it ends.", "integer"),
        offset=number("In that file.", "integer"),
        next_id=number("The id that a next record would get.", "integer"),
        records=number("Records, notes included.", "integer"),
        master=string(description="Whom a slave follows."),
        gateway=string(description="Where to upload; known once that gateway was heard."),
        connected={"type": "boolean", "description": "Whether a slave hears its master."},
        behind_entries=number("Ids that a slave does not have.", "integer"),
        behind_bytes=number("Bytes of the log that a slave does not have.", "integer"),
        behind_seconds=number("Since a slave last had everything."),
        problem=string(description="Why it does not follow now."),
        refuses=string(description="Why it takes no writes."),
        compared=number("When the logs were last compared, seconds since 1970; 0 never."),
        differs=string(description="What was different then."),
        aside_files=number("Files aside-*: what its master never had.", "integer"),
        aside_bytes=number("Bytes in them.", "integer"),
        asked=string(description="Which of several servers this is, or empty."),
        slaves=array(ref("Follower"))) | {
            "type": ["object", "null"],
            "description": "What the metadata server tells of itself; null of a 0-db."},
    "Archive": struct(
        every=number("Seconds between copies of the metadata log in the pool; 0 never."),
        kept=number("When all of it was there last, seconds since 1970; 0 unknown here."),
        elsewhere={"type": "boolean", "description": "Another gateway keeps it."},
        superseded={"type": "boolean", "description": "The stores hold another log."},
        problem=string(description="Why it is not kept.")) | {
            "type": ["object", "null"], "description": "The copy of the metadata in the pool."},
    "Health": struct(status=string(enum=["ok"]), version=string(examples=[__version__])),
    # Strangers are told whether, callers why.
    "Ready": struct("metadata", "archive", "ssh", "nodes", "keeper", "problems",
                     ready={"type": "boolean"}, metadata=ref("Metadata"), archive=ref("Archive"),
                     ssh=ref("SshStanding"), nodes=ref("SshStanding"),
                     keeper=ref("SshStanding"),
                     problems=array(string(examples=["no worker is running"]))),
    "SshStanding": {
        "description": "Whether SSH homes can be used; null where they are off.",
        **struct(up={"type": "boolean"}, problem=string()),
        "type": ["object", "null"],
    },
    "Problem": {
        "description": "What went wrong, as RFC 9457 problem+json.",
        **struct("request", type=string(description="A stable name: `urn:zerostor:CODE`."),
                  title=string(), status=number(kind="integer"),
                  detail=string(description="One sentence for a person."),
                  request=string(description="The id of the request, as in X-Request-Id.")),
        "examples": [{"type": "urn:zerostor:unknown-object", "title": "unknown object",
                      "status": 404, "detail": "no object has this hash"}],
    },
}
