"""The works of `zerostor bench` that measure nodes, at their smallest: real hub, real firmware."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from gateway.bench import nodes
from gateway.bench.command import _plain

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")


# How fast a lost node is made good is not asked here: of a few chunks it is over before it is seen.
@pytest.mark.parametrize("step", ["nodes-many", "nodes-write"])
async def test_each_ends_with_figures_that_can_be_read(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    monkeypatch.setattr(nodes, "BEATING_SECONDS", 0.2)
    monkeypatch.setattr(nodes, "WRITERS", (1, 2))
    found = await nodes.NodeSuite(tmp_path, 0.0).steps()[step]()
    told = [json.loads(json.dumps(_plain(row))) for row in found]
    assert len(told) == 2
    for row in told:
        assert row["work"] and row["unit"]
        figures = [row["value"], row["floor"], row["ratio"], row["cpu_s_per_gb"],
                   *row["notes"].values()]
        assert all(figure is None or (math.isfinite(figure) and figure >= 0) for figure in figures)
        assert row["floor"] is None or row["ratio"] > 0
    assert told[0]["value"] > 0
    assert not list(tmp_path.iterdir())
