"""Requests made up from /openapi.json against a running zerostor: a share of `make fuzz`."""

from __future__ import annotations

import importlib.util

import pytest

from tests.fuzz.fuzzing import Place, running

if importlib.util.find_spec("schemathesis") is None:
    pytest.skip("schemathesis is not installed", allow_module_level=True)

SEED = 20261122


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Everything is on; who asks has a role, or none."""
    with running(tmp_path_factory.mktemp("fuzz"), "keys") as found:
        yield found


@pytest.mark.parametrize(("who", "phases", "least"), [
    ("admin", "coverage,fuzzing", 500), ("stranger", "fuzzing", 50)])
def test_no_request_is_answered_otherwise_than_described(place: Place, who, phases, least):
    came = place.fuzz(who, 5, SEED, phases)
    assert came.good, came.told
    assert came.cases > least, came.told
