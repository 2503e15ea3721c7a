"""SECURITY.md names a test for each threat, and they exist; no package has a hole that is known."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.tidy.source_tree import ROOT

ROWS = re.findall(r"^\| (T\d+) \|.*\| (.*) \|$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
LEAST = {
    "aiohttp": "3.14.5",  # GHSA-2g87-pp6c-29x5, GHSA-5wr8-gcqf-gqf3: memory, first header
    "asyncssh": "2.24.0",  # packets of size zero; CVE-2026-54591 (2.23.1): paths of scp
    "redis": "4.5.5",  # CVE-2023-28858, 28859: answers for others after a cancelled call
}
"""What closes the last hole that the projects' own changelogs tell of (read 2026-11-21)."""


def test_every_threat_has_its_row():
    assert [number for number, _ in ROWS] == [f"T{number}" for number in range(1, 26)]


@pytest.mark.parametrize(("number", "named"), ROWS)
def test_the_tests_that_are_named_exist(number: str, named: str) -> None:
    tests = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", named)
    assert tests, number
    for path, name in tests:
        text = (ROOT / path).read_text()
        assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), (path, name)


@pytest.mark.parametrize("name", LEAST)
def test_nothing_is_older_than_its_last_known_hole(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ranges = {canonicalize_name(one.name): one.specifier
              for one in map(Requirement, project["dependencies"])}
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()
                if "==" in line)
    least = Version(LEAST[name])
    assert Version(pins[name]) >= least
    lowest = [Version(one.version) for one in ranges[name] if one.operator == ">="]
    assert lowest and lowest[0] >= least
