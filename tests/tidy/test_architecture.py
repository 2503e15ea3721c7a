"""ARCHITECTURE.md cannot lag: it quotes the constants of the code, and its map is complete."""

from __future__ import annotations

import ast
import importlib
import re

import pytest

from tests.tidy.source_tree import ROOT, product_sources

TEXT = (ROOT / "ARCHITECTURE.md").read_text()
CONSTANT = re.compile(r"^\| `([A-Z_]+)` \| (\S+) \| `([\w/]+)\.py` \|", re.MULTILINE)
MAP = TEXT.partition("\n## 2. Map\n")[2].partition("\n## 3.")[0]
QUOTED = CONSTANT.findall(TEXT)


@pytest.mark.parametrize(("name", "value", "module"), QUOTED)
def test_a_constant_is_what_it_is_said_to_be(name: str, value: str, module: str) -> None:
    real = getattr(importlib.import_module(module.replace("/", ".")), name)
    assert real == ast.literal_eval(value), f"{name} is {real}"


def test_enough_is_quoted() -> None:
    assert len(QUOTED) > 20


def test_every_module_is_on_the_map() -> None:
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", MAP))
    missing = [
        source.path
        for source in product_sources()
        if not source.path.endswith("__init__.py")
        and source.path not in named
        and f"{source.path.rpartition('/')[0]}/" not in named
    ]
    assert missing == []


def test_sections_lead_somewhere() -> None:
    headings = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) == anchors
