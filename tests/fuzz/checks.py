"""Checks of ours besides those of schemathesis, which loads this file (SCHEMATHESIS_HOOKS)."""

from __future__ import annotations

import schemathesis

FORESEEN = ("urn:zerostor:node-away",)
"""Errors of 5xx that are true: the nodes that fuzzing adds exist in no place."""


@schemathesis.check
def no_server_error(_: object, response: schemathesis.Response, __: object) -> None:
    """Whatever is sent, nothing here fails on it."""
    if response.status_code >= 500:
        kind = response.json()["type"]
        assert kind in FORESEEN, f"{response.status_code}: {response.text[:400]}"


@schemathesis.check
def nothing_of_itself(_: object, response: schemathesis.Response, __: object) -> None:
    """An answer is never a traceback, never in the middle of a page of somebody else's."""
    assert b"Traceback" not in response.content
    if response.status_code >= 400:
        assert response.headers["content-type"][0].startswith("application/problem+json")


@schemathesis.check
def one_answer(_: object, response: schemathesis.Response, __: object) -> None:
    """Nothing that was sent became a header of the answer."""
    assert not {"set-cookie", "location", "x-injected"} & set(response.headers)
