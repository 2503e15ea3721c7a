"""The HTTP interface as an OpenAPI 3.1 document: GET /openapi.json, drawn by /docs.

One Operation per route of gateway/app.py; tests/unit/test_openapi.py holds the two together, and
the schemas to what the routes really answer. `x-codeSamples` is a name Redoc and others know.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiohttp import web

from gateway.access import Access, Required, required_of
from gateway.api_operations import Operation, Parameter, file_answer, json_answer
from gateway.api_schemas import SAMPLE_HASH, SAMPLE_JOB, SCHEMAS, Json, ref, string, struct
from gateway.event_operations import EVENT_OPERATIONS, EVENT_SCHEMAS
from gateway.node_operations import NODE_OPERATIONS, NODE_SCHEMAS
from gateway.removal_operations import REMOVAL_OPERATIONS, REMOVAL_SCHEMAS
from gateway.repair_operations import REPAIR_OPERATIONS, REPAIR_SCHEMAS
from gateway.scrub_operations import SCRUB_OPERATIONS, SCRUB_SCHEMAS
from gateway.services import services_of
from gateway.sign_in_operations import DENIED, SCHEMES, SIGN_IN_OPERATIONS, SIGN_IN_SCHEMAS
from gateway.ssh_operations import SSH_OPERATIONS
from gateway.ssh_schemas import SSH_SCHEMAS
from gateway.store_operations import STORE_OPERATIONS, STORE_SCHEMAS
from gateway.telemetry_operations import TELEMETRY_OPERATIONS, TELEMETRY_SCHEMAS
from zerostor import __version__
from zerostor.core.limits import EXTENSION_MAX, RESULT_KEEP, STATUS_WAIT_MAX
from zerostor.core.link import PRIVATE_HEADER
from zerostor.core.settings import PUBLIC_MODE

DEFAULT_BASE = "http://127.0.0.1:8080"
"""What the examples ask when the gateway has no public_url; /docs puts its own address there."""
_OBJECT_HEADERS = {
    "ETag": "The hash, in quotes.",
    "Cache-Control": "`public, max-age=31536000, immutable`: a link never changes its bytes;"
                     " `private` where the object is.",
    PRIVATE_HEADER: "1 if the object is private: its hash is no plain one of the bytes.",
    "Content-Security-Policy": "A sandbox, so that a stored page cannot act as this site.",
    "Last-Modified": "When it was stored.",
    "Content-Disposition": "`attachment` of all but pictures, sound, video and plain text.",
}


_LINK_MAX = 56 + 1 + EXTENSION_MAX
_LETTERS = r"[A-Za-z0-9]+(\.[A-Za-z0-9]+)*"
_LINK = Parameter(
    "link", "path", "`HASH` or `HASH.ext`; the extension is for people, the hash alone decides.",
    string(rf"^[0-9a-fA-F]{{56}}(\.{_LETTERS})?$", maxLength=_LINK_MAX), f"{SAMPLE_HASH}.jpg")
_HASH_OR_LINK = Parameter("hash", "path", "`HASH` or `HASH.ext`.", _LINK.schema, SAMPLE_HASH)
_JOB_ID = Parameter("job", "path", "The job id that the upload was answered with.",
                    string("^[0-9a-f]{32}$"), SAMPLE_JOB)
_WAIT = Parameter("wait", "query", "Seconds to wait for the end before answering; more than"
                  f" {STATUS_WAIT_MAX:.0f} counts as {STATUS_WAIT_MAX:.0f}.",
                  {"type": "number", "minimum": 0, "default": 0}, 30)
_BAD_LINK = "`bad-link` or `bad-extension`: not 56 hex digits with an optional extension."
_NO_OBJECT = "`unknown-object`: no object has this hash."
_REMOVED = "`removed`: the object behind this link was removed, or is in quarantine."
_NO_JOB = "`unknown-job`: no such job, or it ended too long ago."
_BACKEND = "Something behind the gateway is away; try again after `Retry-After` seconds."

_EXAMPLE_JOB: Json = {"job": SAMPLE_JOB, "state": "DONE", "progress": 1,
                      "link": f"/{SAMPLE_HASH}.jpg", "hash": SAMPLE_HASH, "detail": ""}

_STORE = (
    Operation(
        "post", "/api/upload", "upload", "store", "Store a file",
        "Send the bytes as the body, or as the field `file` of a multipart form. The answer 202"
        " means the upload is safe on disk and a worker will store it: ask its job for the link."
        " With `wait` and in time the link comes at once.",
        {200: json_answer("Stored: enough shards are durable, the link is good.", "Stored",
                    {"hash": SAMPLE_HASH, "link": f"/{SAMPLE_HASH}.jpg", "job": SAMPLE_JOB}),
         202: json_answer("Accepted and on disk, not stored yet.", "Accepted",
                    {"job": SAMPLE_JOB, "status": f"/api/status/{SAMPLE_JOB}"}),
         400: "`bad-extension` or `bad-request`: a parameter or the form cannot be understood.",
         413: "`too-large`: more bytes than this gateway takes.",
         415: "The body came with a Content-Encoding; send the bytes as they are.",
         500: "The upload was taken and could not be stored; see `/api/jobs`.",
         429: "`too-many-requests`: of this address or key; come again after Retry-After.",
         503: _BACKEND, 507: "`spool-full`: no room for an upload now."},
        (Parameter("ext", "query", f"Extension of the link: letters and digits, at most"
                   f" {EXTENSION_MAX}, as in `jpg` or `tar.gz`.",
                   string(anyOf=[string(f"^{_LETTERS}$", maxLength=EXTENSION_MAX),
                                 string(rf"^\.{_LETTERS}$", maxLength=EXTENSION_MAX + 1)]),
                   "jpg"),
         Parameter("name", "query", "A file name to take the extension from, without `ext`.",
                   string(), "photo.jpg"), _WAIT,
         Parameter("private", "query", "1: the hash is keyed with a secret of this object, so who"
                   " knows or guesses the bytes cannot find the link.",
                   string(enum=["0", "1", "false", "true"], default="0"))),
        "--data-binary @photo.jpg '{base}/api/upload?ext=jpg&wait=30'",
        {"required": False, "content": {
            "application/octet-stream": {},
            "multipart/form-data": {"schema": struct(file={
                "contentMediaType": "application/octet-stream"})}}}),
    Operation(
        "get", "/api/status/{job}", "status", "store", "Ask how a job goes",
        "One word of text: `ACTIVE`; `TIMEOUT` (still active after `wait`); `ERROR: reason`; or the"
        " link `HASH.ext`. With `Accept: application/json` all that is known. A result can be asked"
        f" for {RESULT_KEEP // 3600} hours.",
        {200: {"description": "The state of the job.", "content": {
            "text/plain": {"schema": string(), "example": f"{SAMPLE_HASH}.jpg"},
            "application/json": {"schema": ref("Job"), "example": _EXAMPLE_JOB}}},
         400: "`bad-request`: wait is not a number.", 404: _NO_JOB, 410: _REMOVED,
         429: "`too-many-requests`: more wait than one address may have wait.", 503: _BACKEND},
        (_JOB_ID, _WAIT), "'{base}/api/status/" + SAMPLE_JOB + "?wait=30'"),
)

_OBJECT_RESPONSES: dict[int, Json | str] = {
    200: {"description": "The bytes, each checked before it was sent.",
          "headers": {name: {"description": text, "schema": string()}
                      for name, text in _OBJECT_HEADERS.items()},
          "content": {"*/*": {}}},
    206: file_answer("The range that was asked for.", "*/*"),
    308: {"description": "It is served from another host name (gateway.content_url)."},
    304: {"description": "The copy you have is good (If-None-Match, If-Modified-Since)."},
    400: _BAD_LINK, 404: _NO_OBJECT, 410: _REMOVED,
    416: "`range-not-satisfiable`: no byte of the object lies in the range.",
    503: "`object-unreadable`: too few good shards answer now.",
}

_READ = (
    Operation(
        "get", "/{link}", "get", "read", "Get an object",
        "The bytes of an object. One range is served (RFC 9110); of several, the whole. A body that"
        " turns bad on the way is broken off, never sent wrong.",
        _OBJECT_RESPONSES,
        (_LINK, Parameter("Range", "header", "One range of bytes.", string(), "bytes=0-1023"),
         Parameter("If-None-Match", "header", "The hash in quotes of a copy you have.", string())),
        "-O '{base}/" + SAMPLE_HASH + ".jpg'"),
    Operation(
        "head", "/{link}", "head", "read", "Ask for the headers of an object",
        "As GET, without the bytes.", _OBJECT_RESPONSES, (_LINK,),
        "-I '{base}/" + SAMPLE_HASH + ".jpg'"),
    Operation(
        "get", "/api/exists/{hash}", "exists", "read", "Is it here?",
        "What is known of an object, from its record; no store is asked.",
        {200: json_answer("It is.", "Object"), 400: _BAD_LINK, 404: _NO_OBJECT, 410: _REMOVED,
          503: _BACKEND},
        (_HASH_OR_LINK,), "'{base}/api/exists/" + SAMPLE_HASH + "'"),
    Operation(
        "get", "/api/check/{hash}", "check", "read", "Is it whole?",
        "The state of each shard. A soft check looks whether each is there and describes itself"
        " right; a hard one reads every byte of all of them, and the object.",
        {200: json_answer("What was found.", "Check"),
         400: _BAD_LINK, 404: _NO_OBJECT, 410: _REMOVED,
          503: _BACKEND},
        (_HASH_OR_LINK, Parameter("mode", "query", "How closely to look.",
                                  string(enum=["soft", "hard"], default="soft"), "hard")),
        "'{base}/api/check/" + SAMPLE_HASH + "?mode=hard'"),
)

_OPERATE = (
    Operation(
        "get", "/api/jobs", "jobs", "operate", "Count the jobs",
        "How much waits and runs, who works, and the jobs that failed for good.",
        {200: json_answer("The queue and the dead-letter list.", "Jobs"), 503: _BACKEND},
        (), "'{base}/api/jobs'"),
    Operation(
        "post", "/api/jobs/{job}/requeue", "requeue", "operate", "Try a failed job again",
        "The bytes of a failed job are kept; this gives it a fresh start.",
        {202: json_answer("Queued again.", "Accepted"), 404: _NO_JOB, 503: _BACKEND},
        (_JOB_ID,), "-X POST '{base}/api/jobs/" + SAMPLE_JOB + "/requeue'"),
    Operation(
        "get", "/healthz", "healthz", "operate", "Is the process alive?", "For supervisors.",
        {200: json_answer("It is.", "Health")}, (), "'{base}/healthz'"),
    Operation(
        "get", "/readyz", "readyz", "operate", "Would an upload work?",
        "For load balancers. Of a slave, that only reads: would a download work?",
        {200: json_answer("It would.", "Ready"),
         503: json_answer("It would not, and why.", "Ready")},
        (), "'{base}/readyz'"),
    Operation(
        "get", "/metrics", "metrics", "operate", "Metrics", "In the text format of Prometheus.",
        {200: {"description": "The metrics.",
               "content": {"text/plain": {"schema": string()}}}}, (), "'{base}/metrics'"),
)

_PAGES = (
    Operation("get", "/", "page", "pages", "The page", "Drop a file, get a link.",
              {200: file_answer("The page.", "text/html")}),
    Operation("get", "/docs", "docs", "pages", "This documentation", "Drawn from /openapi.json.",
              {200: file_answer("The page.", "text/html")}),
    Operation("get", "/explorer/{name}", "asset", "pages", "Parts of the pages",
              "Their styles and scripts.",
              {200: file_answer("A style or script.", "*/*"), 404: "`not-found`: no such part."},
              (Parameter("name", "path", "File name.", string(), "explorer.css"),)),
    Operation("get", "/openapi.json", "openapi", "pages", "This document", "OpenAPI 3.1.",
              {200: file_answer("The document.", "application/json")}, (), "'{base}/openapi.json'"),
)

OPERATIONS = (_STORE + _READ + REMOVAL_OPERATIONS + SIGN_IN_OPERATIONS + SSH_OPERATIONS
              + NODE_OPERATIONS + TELEMETRY_OPERATIONS + EVENT_OPERATIONS + STORE_OPERATIONS
              + REPAIR_OPERATIONS + SCRUB_OPERATIONS + _OPERATE + _PAGES)
_TAGS = {"store": "Put a file in and follow its job.", "read": "Get it back, and see how it is.",
         "remove": "Links that go dark.",
         "sign-in": "Say who you are, where the gateway asks.",
         "ssh": "Homes for sftp, scp and rsync, and from there into the store.",
         "nodes": "ESP32s that keep chunks.",
         "telemetry": "Streams that are appended to, kept on nodes.",
         "operate": "For whoever runs the gateway.", "pages": "For a browser."}


async def openapi(request: web.Request) -> web.Response:
    """GET /openapi.json."""
    services = services_of(request)
    open_to_all = services.security.mode == PUBLIC_MODE
    body = msgspec.json.encode(document(services.public_url, services.max_upload,
                                        {} if open_to_all else required_of(request.app)))
    return web.Response(body=body, content_type="application/json",
                        headers={"Cache-Control": "no-cache"})


def document(public_url: str = "", max_upload: int | None = None,
             required: Mapping[tuple[str, str], Required] | None = None) -> Json:
    """The OpenAPI document. public_url: of the gateway, or empty; max_upload: its limit in bytes.

    The limit stands in `x-max-bytes` of the upload, so that a client need not try. required: what
    routes require, by method and path; none of a gateway that is open to all.
    """
    base = public_url.rstrip("/")
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(
            operation, base, (required or {}).get((operation.method, operation.path)))
    if max_upload is not None:
        paths["/api/upload"]["post"]["x-max-bytes"] = max_upload
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "zerostor", "version": __version__,
            "summary": "One place that keeps a file for good.",
            "description": "Upload a file, get a permanent link. Every byte that comes back was"
                           " checked on the way out. Errors are RFC 9457 problem+json.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": base or "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {"schemas": SCHEMAS | REMOVAL_SCHEMAS | SIGN_IN_SCHEMAS | SSH_SCHEMAS
                       | NODE_SCHEMAS | TELEMETRY_SCHEMAS | EVENT_SCHEMAS | STORE_SCHEMAS
                       | REPAIR_SCHEMAS | SCRUB_SCHEMAS,
                       "responses": {"Problem": _problem("An error.")},
                       "securitySchemes": SCHEMES},
    }


def _described(operation: Operation, base: str, required: Required | None) -> Json:
    described: Json = {
        "operationId": operation.name, "tags": [operation.tag],
        "summary": operation.title, "description": operation.text,
        "parameters": [_parameter(parameter) for parameter in operation.parameters],
        "responses": {str(status): _problem(answer) if isinstance(answer, str) else answer
                      for status, answer in operation.responses.items()},
    }
    if required not in (None, Access.PUBLIC, Access.HOST):
        for status, text in DENIED.items():
            described["responses"].setdefault(str(status), _problem(text))
        # Of those whose parameters decide it is not always asked for.
        described["security"] = [*([{}] if callable(required) else []),
                                 *({name: []} for name in SCHEMES)]
    described["responses"]["default"] = {"$ref": "#/components/responses/Problem"}
    if operation.body is not None:
        described["requestBody"] = operation.body
    if operation.curl:
        source = "curl " + operation.curl.replace("{base}", base or DEFAULT_BASE)
        described["x-codeSamples"] = [{"lang": "Shell", "source": source}]
    return described


def _parameter(parameter: Parameter) -> Json:
    described: Json = {"name": parameter.name, "in": parameter.place,
                       "description": parameter.text, "schema": parameter.schema}
    if parameter.place == "path":
        described["required"] = True
    if parameter.example is not None:
        described["example"] = parameter.example
    return described


def _problem(text: str) -> Json:
    return {"description": text, "content": {
        "application/problem+json": {"schema": ref("Problem")}}}
