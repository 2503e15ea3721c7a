"""The dashboard and the alert rules name metrics that there are, and labels that those have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "gateway" / "monitoring"
SOURCES = [*ROOT.glob("gateway/*exposition.py"), ROOT / "gateway/figures.py"]
_NAME = re.compile(r"\b(?:zerostor|up|process)_?[a-z_0-9]*\b(?=\s*[{\[)=<>/+*-]|\s|$)")
_DECLARED = re.compile(
    r'(gauge|counter|histogram|Counter|Histogram|[A-Z][a-z]+MetricFamily|_room|_lag)\(\s*'
    r'(?:stores, |state, )?"(zerostor_[a-z_0-9]+)"')
_LITERAL = re.compile(r'"(zerostor_[a-z_]+)"')
_SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}


def declared() -> set[str]:
    """Names of series, as the sources make them."""
    names = {"up"}
    for source in SOURCES:
        text = source.read_text()
        typed = _DECLARED.findall(text)
        # In rows of a table, whose kind stands elsewhere.
        for name in set(_LITERAL.findall(text)) - {name for _, name in typed}:
            names.update((name, f"{name}_total"))
        for kind, name in typed:
            plain = kind.lower().removesuffix("metricfamily")
            names.update(name + suffix for suffix in _SUFFIXES.get(plain, [""]))
    return names


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((MONITORING / "grafana.json").read_text())["panels"]
    return found


def expressions() -> Iterator[str]:
    for panel in panels():
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (rule["expr"] for rule in rules())


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_what_is_asked_for_is_there(expression: str) -> None:
    bare = re.sub(r'"[^"]*"', '""', expression)
    named = {name for name in _NAME.findall(bare) if name == "up" or "_" in name}
    assert named and named <= declared(), named - declared()
    assert bare.count("(") == bare.count(")") and bare.count("{") == bare.count("}")


def test_the_dashboard_is_one() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids) > 20
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["type"] == "row" or panel["targets"]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_alert_says_what_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description"}
    commands = re.findall(r"`zerostor ([a-z]+)", rule["annotations"]["description"])
    for command in commands:
        assert (ROOT / "gateway" / "commands" / f"{command}.py").exists(), command
