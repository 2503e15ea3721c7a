"""Answers about SSH homes, as JSON schemas, beside those of `api_schemas`."""

from __future__ import annotations

from gateway.api_schemas import Json, array, asked, nullable, number, ref, string, struct

SAMPLE_FINGERPRINT = "SHA256:R8yRWNbkQvV9fD5vq1d3rUuPzzYk3PZrD6m0H4a3vYQ"
_USER = string(examples=["anna"])
_ASKED_USER: Json = {"type": ["string", "null"], "pattern": "^[a-z0-9_][a-z0-9_.-]{0,31}$",
                     "examples": ["anna"]}
_PATH = string(description="Within the home; bytes that are no UTF-8 as \\xNN.",
               examples=["/photos/cat.jpg"])
_AT = number("Seconds since 1970, UTC.")
_BYTES = {"used": number("Bytes of its files, holes and all.", "integer"),
          "free": number("Bytes that still fit.", "integer"),
          "files": number("How many.", "integer")}
_LIMIT = number("Bytes that its files may have together.", "integer")
_HOME: dict[str, Json] = {
    "user": _USER,
    "enabled": {"type": "boolean", "description": "Whether anybody may log in."},
    "limit": _LIMIT,
    "quota": string(enum=["refuse", "drop-oldest"],
                    description="What happens to what does not fit."),
    "auto_process": ref("AutoProcess"), "keys": array(ref("HomeKey")), **_BYTES}
_WHOSE: dict[str, Json] = {
    "username": _ASKED_USER | {"description": "Whose home."},
    "user": _ASKED_USER | {"description": "As `username`; one of the two is said."}}
SSH_SCHEMAS: dict[str, Json] = {
    "SshServer": struct(
        address=string(description="Where it listens.", examples=["127.0.0.1:2222"]),
        host_key=string(description="For known_hosts, behind the name of the host."),
        fingerprint=string(description="Of the host key.", examples=[SAMPLE_FINGERPRINT])),
    "HomeKey": struct(
        fingerprint=string(examples=[SAMPLE_FINGERPRINT]),
        comment=string(examples=["anna@laptop"]), added=_AT),
    "AutoProcess": struct(
        quiet=number("Seconds without a change until a file is stored."),
        link_files={"type": "boolean", "description": "Write NAME.link beside it."},
        remove={"type": "boolean", "description": "Take the file away once it is stored."}) | {
            "type": ["object", "null"], "description": "null: only what is asked for is stored."},
    "Home": struct(*_BYTES, **_HOME),
    "HomeEnabled": struct(*_BYTES, **_HOME, server=ref("SshServer")),
    "HomeDisabled": struct(
        *_BYTES, **_HOME,
        files_stay_in=nullable("string", "The folder on the gateway's host; null: they are gone."),
        deleted={"type": ["object", "null"], "description": "What was deleted: `used`, `files`."}),
    "Homes": struct(server=ref("SshServer"), homes=array(ref("Home"))),
    "HomeSize": struct(user=_USER, limit=_LIMIT, **_BYTES),
    "HomeLink": struct(
        path=_PATH, link=string(description="Where the object is served."), hash=string(),
        size=number("Bytes of the files that went in.", "integer"), at=_AT,
        number=number("For `before`.", "integer"),
        removed={"type": "boolean", "description": "Whether it answers 410."}),
    "HomeLinks": struct(user=_USER, links=array(ref("HomeLink"))),
    "HomeEvent": struct(
        at=_AT, kind=string(enum=["removed", "stored", "failed", "kept"],
                            description="removed: for room. kept: stored, but changed meanwhile."),
        path=_PATH, detail=string(), size=number("Bytes.", "integer")),
    "HomeEvents": struct(user=_USER, events=array(ref("HomeEvent"))),
    "EnableHome": asked(
        "sshpubkey", "max_size_mb", "quota", "auto_process", *_WHOSE, **_WHOSE,
        sshpubkey=nullable("string", "One line, as in ~/.ssh/id_ed25519.pub."),
        max_size_mb={"type": ["number", "null"], "exclusiveMinimum": 0,
                     "description": "Megabytes of 1,000,000 bytes."},
        quota=_HOME["quota"] | {"type": ["string", "null"],
                                "enum": ["refuse", "drop-oldest", None]},
        auto_process={"type": ["object", "boolean", "null"], "description":
                      "true, false, or any of `quiet`, `link_files`, `remove`."}),
    "DisableHome": asked(
        "fingerprint", "delete_files", "unstored", *_WHOSE, delete_files={
            "type": "boolean", "default": False,
            "description": "Take the home away for good, with its files."},
        unstored={
            "type": "boolean", "default": False, "description":
            "With it: also files that are not stored; else these are named, and it is refused."},
        **_WHOSE, fingerprint=nullable(
        "string", "Of the one key that is meant; without it the whole home is closed.")),
    "ProcessPath": asked("remove", *_WHOSE, **_WHOSE, path=_PATH, remove={
        "type": "boolean", "default": False,
        "description": "Take away what is still as it was read, once the hash is durable."}),
}
