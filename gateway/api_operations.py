"""What one route of the HTTP interface is, for the OpenAPI document."""

from __future__ import annotations

from typing import NamedTuple

from gateway.api_schemas import Json, ref


class Parameter(NamedTuple):
    """One parameter of an operation. place: path, query or header."""

    name: str
    place: str
    text: str
    schema: Json
    example: str | int | float | None = None


class Operation(NamedTuple):
    """One method of one path. responses: by status, a whole response object or an error's text."""

    method: str
    path: str
    name: str
    tag: str
    title: str
    text: str
    responses: dict[int, Json | str]
    parameters: tuple[Parameter, ...] = ()
    curl: str = ""
    body: Json | None = None


def json_answer(text: str, schema: str, example: Json | None = None) -> Json:
    """A response with a body of one of the schemas."""
    media: Json = {"schema": ref(schema)}
    return {"description": text, "content": {
        "application/json": media | ({"example": example} if example else {})}}


def file_answer(text: str, media: str) -> Json:
    """A response with a body of another media type."""
    return {"description": text, "content": {media: {}}}
