"""The firmware in the house style, as far as MicroPython lets it; it compiles for the chips."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tidy.source_tree import ROOT, Function, Source, tracked_files
from tests.tidy.test_style import (
    RULES,
    banned_names,
    essays,
    imported,
    long_files,
    long_functions,
    long_lines,
)
from zerostor.nodes.firmware import ROOT_FILES, mpy_cross

SOURCES = [
    Source(name, (ROOT / name).read_text())
    for name in tracked_files()
    if name.startswith("firmware/") and name.endswith(".py")
]
MICROPYTHON = {
    "binascii", "esp32", "gc", "hashlib", "machine", "network", "os", "select", "socket", "struct",
    "sys", "time", "vfs",
}  # fmt: skip
"""What the firmware may import: modules of MicroPython on an ESP32."""


def undocumented(source: Source) -> Iterator[str]:
    """Modules, classes, functions without a docstring; __init__ and nested ones may do without."""
    if source.text and ast.get_docstring(source.tree) is None:
        yield source.path
    for node in source.tree.body:
        inside = node.body if isinstance(node, ast.ClassDef) else []
        for one in [node, *inside]:
            named = isinstance(one, Function | ast.ClassDef) and not one.name.startswith("_")
            if named and ast.get_docstring(one) is None:
                yield source.at(one, one.name)


@pytest.mark.parametrize(
    "rule", [long_files, long_lines, long_functions, banned_names, essays, undocumented]
)
def test_rule(rule):
    assert rule in RULES or rule is undocumented
    assert len(SOURCES) > 12
    assert [sin for source in SOURCES for sin in rule(source)] == []


def test_undocumented_bites():
    assert list(undocumented(Source("firmware/x.py", "def f():\n    return 1\n")))


def test_the_firmware_imports_what_a_chip_has():
    for source in SOURCES:
        if "/emulated/" in source.path:
            continue
        for name in imported(source):
            own = name.partition(".")[0] in ("app", "slots")
            assert own or name.partition(".")[0] in MICROPYTHON, source.path


def test_nothing_of_the_firmware_knows_that_it_is_emulated():
    for source in SOURCES:
        if "/emulated/" not in source.path:
            assert "emulat" not in source.text.lower(), source.path


def test_a_wheel_has_all_of_it():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packed = {
        path
        for patterns in settings["data-files"].values()
        for pattern in patterns
        for path in ROOT.glob(pattern)
    }
    assert {ROOT / name for name in tracked_files() if name.startswith("firmware/")} <= packed
    for target, patterns in settings["data-files"].items():
        assert all(target == f"share/zerostor/{Path(one).parent}" for one in patterns)


def test_what_lies_beside_the_application_is_named():
    beside = {path.name for path in (ROOT / "firmware").glob("*.py")}
    assert beside == set(ROOT_FILES)


@pytest.mark.parametrize("chip", ["xtensawin", "rv32imc"])
def test_it_compiles_for_the_chip(chip: str, tmp_path: Path) -> None:
    compiler = mpy_cross()
    if compiler is None:
        pytest.skip("mpy-cross is not installed")
    total = 0
    for source in SOURCES:
        if "/emulated/" not in source.path:
            made = tmp_path / Path(source.path).with_suffix(".mpy").name
            command = [compiler, f"-march={chip}", "-O2", "-o", str(made), str(ROOT / source.path)]
            subprocess.run(command, check=True, capture_output=True)
            total += made.stat().st_size
    assert 10_000 < total < 30_000


@pytest.mark.parametrize("megabytes", [4, 8, 16])
def test_partitions_lie_one_behind_the_other(megabytes: int) -> None:
    text = (ROOT / f"firmware/partitions-{megabytes}MB.csv").read_text()
    rows = [re.split(r",\s*", line) for line in text.splitlines() if not line.startswith("#")]
    end = 0x9000
    for _, _, _, offset, size in rows:
        assert int(offset, 16) == end
        assert int(size, 16) % 4096 == 0
        end += int(size, 16)
    assert end == megabytes << 20
    assert [row[0] for row in rows] == ["nvs", "phy_init", "factory", "vfs", "chunks"]


