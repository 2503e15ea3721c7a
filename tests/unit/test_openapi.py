"""The OpenAPI document says what the gateway does: each route, and answers that fit its schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

from gateway.access import Access, required_of
from gateway.app import build_app
from gateway.caller import Everybody
from gateway.content import ANY_HOST
from gateway.event_operations import LIVE
from gateway.http_errors import problem, status_of
from gateway.openapi import DEFAULT_BASE, OPERATIONS, document, openapi
from gateway.routes.events import SOURCES
from gateway.routes.jobs import describe
from gateway.services import SERVICES
from tests.fakes.open_wire import open_wire
from zerostor import __version__
from zerostor.core import errors
from zerostor.core.jobs import JobState, JobUpdate
from zerostor.core.limits import CELL_SIZE
from zerostor.core.record import StripeSet
from zerostor.engine.check import Fault, Report, ShardState

REQUIRED = required_of(build_app(cast("Any", SimpleNamespace(wire=open_wire()))))
DOCUMENT = document(required=REQUIRED)
KEYS = {
    "document": "openapi info servers tags paths components",
    "info": "title version summary description license",
    "path": "get head post put delete",
    "operation": "operationId tags summary description parameters responses requestBody security"
                 " x-codeSamples x-max-bytes",
    "parameter": "name in description schema example required",
    "response": "description content headers",
    "media": "schema example",
    "schema": "$ref type properties required items enum pattern description examples default"
              " minimum maximum additionalProperties contentMediaType minLength maxLength"
              " exclusiveMinimum minProperties maxProperties anyOf",
}
"""The part of OpenAPI 3.1 and JSON Schema that the document uses; a typo is none of these."""
TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict,
         "array": list, "null": type(None)}


def errors_by_code(kind: type[errors.ZerostorError] = errors.ZerostorError
                   ) -> Iterator[tuple[str, int]]:
    """(code, HTTP status) of every error in the tree; a client has others of its own."""
    yield kind.code, status_of(kind())
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from errors_by_code(child)


def check(value: object, schema: dict[str, Any], place: str = "answer") -> None:
    """Fail unless `value` fits `schema`, and has no field that the schema does not name."""
    if "$ref" in schema:
        schema = resolve(schema["$ref"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    allowed = [TYPES[kind] for kind in kinds]
    assert any(isinstance(value, kind) for kind in allowed), f"{place}: {value!r} is no {kinds}"
    assert value in schema.get("enum", [value]), f"{place}: {value!r}"
    if isinstance(value, str) and "pattern" in schema:
        assert re.search(schema["pattern"], value), f"{place}: {value!r}"
    if isinstance(value, int | float):
        assert value >= schema.get("minimum", value), place
        assert value <= schema.get("maximum", value), place
    if isinstance(value, list):
        for item in value:
            check(item, schema["items"], f"{place}[]")
    if isinstance(value, dict) and "properties" in schema:
        assert set(schema["required"]) <= set(value) <= set(schema["properties"]), place
        for name, field in value.items():
            check(field, schema["properties"][name], f"{place}.{name}")


def resolve(reference: str) -> dict[str, Any]:
    """What a $ref names."""
    found: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return cast("dict[str, Any]", found)


def named(name: str) -> dict[str, Any]:
    return resolve(f"#/components/schemas/{name}")


def check_keys(kind: str, described: dict[str, Any]) -> None:
    assert set(described) <= set(KEYS[kind].split()), (kind, described)


def check_schema(schema: dict[str, Any]) -> None:
    check_keys("schema", schema)
    if "$ref" in schema:
        assert resolve(schema["$ref"])
        return
    assert set(schema.get("required", ())) <= set(schema.get("properties", ()))
    # Bytes have none (OpenAPI 3.1, 4.8.14.4).
    named = schema.get("type", [])
    assert set(named if isinstance(named, list) else [named]) <= set(TYPES)
    for child in (*schema.get("properties", {}).values(),
                  *(schema[key] for key in ("items", "additionalProperties")
                    if schema.get(key))):
        check_schema(child)
    for example in schema.get("examples", ()):
        check(example, schema)
    if "default" in schema:
        check(schema["default"], schema)


def check_content(content: dict[str, Any]) -> None:
    for media in content.values():
        check_keys("media", media)
        if "schema" in media:
            check_schema(media["schema"])
        if "example" in media:
            check(media["example"], media["schema"])


def test_every_route_is_described_and_no_other() -> None:
    app = build_app(cast("Any", SimpleNamespace(wire=open_wire())))
    routes = {(route.method.lower(), route.resource.canonical) for route in app.router.routes()
              if route.resource is not None}
    described = {(operation.method, operation.path) for operation in OPERATIONS}
    assert len(described) == len(OPERATIONS)
    assert described <= routes
    # aiohttp answers HEAD wherever it answers GET; it is worth a word for objects only.
    # What hosts of a cluster ask each other is no interface for clients.
    undescribed = {pair for pair in routes - described if pair[0] != "head"}
    assert all(path.startswith("/api/spool/") for _, path in undescribed), undescribed


def test_the_document_is_well_formed() -> None:
    check_keys("document", DOCUMENT)
    check_keys("info", DOCUMENT["info"])
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["info"]["version"] == __version__
    assert set(DOCUMENT["components"]) == {"schemas", "responses", "securitySchemes"}
    for schema in DOCUMENT["components"]["schemas"].values():
        check_schema(schema)
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    names = [operation.name for operation in OPERATIONS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_an_operation_is_well_formed(operation: Any) -> None:
    check_keys("path", DOCUMENT["paths"][operation.path])
    described = DOCUMENT["paths"][operation.path][operation.method]
    check_keys("operation", described)
    assert described["tags"][0] in [tag["name"] for tag in DOCUMENT["tags"]]
    for parameter in described["parameters"]:
        check_keys("parameter", parameter)
        check_schema(parameter["schema"])
        if "example" in parameter:
            check(parameter["example"], parameter["schema"])
    in_path = [each["name"] for each in described["parameters"] if each["in"] == "path"]
    assert in_path == re.findall(r"{(\w+)}", operation.path)
    for status, response in described["responses"].items():
        assert status == "default" or 200 <= int(status) < 600
        response = resolve(response["$ref"]) if "$ref" in response else response
        check_keys("response", response)
        check_content(response.get("content", {}))
    check_content(described.get("requestBody", {}).get("content", {}))


def test_the_errors_named_are_errors_and_have_that_status() -> None:
    known = dict(errors_by_code()) | {"not-found": 404, "range-not-satisfiable": 416}
    for operation in OPERATIONS:
        for status, answer in operation.responses.items():
            if isinstance(answer, str):
                for code in re.findall(r"`([a-z-]+)`(?=[ :])", answer.partition(":")[0] + ":"):
                    assert known.get(code) == status, (operation.name, code)


def test_who_may_ask_is_described() -> None:
    for operation in OPERATIONS:
        described = DOCUMENT["paths"][operation.path][operation.method]
        required = REQUIRED[operation.method, operation.path]
        closed = required not in (Access.PUBLIC, Access.HOST)
        assert ("security" in described) == closed, operation.name
        assert not closed or {"401", "403", "429"} <= set(described["responses"]), operation.name
    assert not any("security" in operation for path in document()["paths"].values()
                   for operation in path.values()), "nobody is asked in mode public"


def test_examples_ask_the_public_address() -> None:
    for operation in OPERATIONS:
        if operation.curl:
            assert DEFAULT_BASE in document_sample(document(), operation)
            sample = document_sample(document("https://files.example/"), operation)
            assert "'https://files.example/" in sample
            assert not re.search(r"\{\w+\}", sample)
    assert document("https://files.example/")["servers"] == [{"url": "https://files.example"}]


def document_sample(described: dict[str, Any], operation: Any) -> str:
    samples = described["paths"][operation.path][operation.method]["x-codeSamples"]
    return cast("str", samples[0]["source"])


@pytest.mark.parametrize("update", [
    JobUpdate("9b" * 16, JobState.ACTIVE, progress=1 / 3),
    JobUpdate("9b" * 16, JobState.WAITING, "17 stores are up"),
    JobUpdate("9b" * 16, JobState.DONE, "ab" * 28 + ".jpg", 1.0),
    JobUpdate("9b" * 16, JobState.ERROR, "the bytes changed"),
], ids=lambda update: update.state.value)
def test_a_job_is_answered_as_described(update: JobUpdate) -> None:
    check(describe(update, ANY_HOST), named("Job"))


@pytest.mark.parametrize("content", [None, "good", "cannot be read"])
def test_a_check_is_answered_as_described(content: str | None) -> None:
    names = tuple(f"{index:02d}" for index in range(len(ShardState)))
    report = Report(StripeSet(bytes(16), 2, len(names) - 2, 0, CELL_SIZE, names, b""))
    report.faults = {shard: Fault(state, "why") for shard, state in enumerate(ShardState) if shard}
    report.content = content
    check({"hash": "ab" * 28, "mode": "hard", "private": False} | report.as_dict(), named("Check"))


def test_an_error_is_answered_as_described() -> None:
    answer = problem(404, "unknown-object", "no object has this hash")
    assert isinstance(answer.body, bytes)
    check(json.loads(answer.body), named("Problem"))
    assert answer.content_type == "application/problem+json"


async def test_the_document_is_served_with_the_limit(aiohttp_client: AiohttpClient) -> None:
    app = web.Application()
    services = SimpleNamespace(public_url="https://files.example", max_upload=5,
                               security=Everybody())
    app[SERVICES] = cast("Any", services)
    app.router.add_get("/openapi.json", openapi)
    client = await aiohttp_client(app)
    answer = await client.get("/openapi.json")
    assert answer.content_type == "application/json"
    served = await answer.json()
    assert served == document("https://files.example", 5)
    assert served["paths"]["/api/upload"]["post"]["x-max-bytes"] == 5


def test_what_is_live_is_documented() -> None:
    assert set(LIVE) == set(SOURCES)
