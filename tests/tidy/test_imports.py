"""The layers of pyproject.toml hold, and would notice if they did not."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
CONTRACTS = [contract["name"] for contract in SETTINGS["contracts"]]
PLANTS = {
    "processes stand on zerostor": ("zerostor/core/units.py", "from workers import runner"),
    "processes do not know each other": ("gateway/waiters.py", "import workers.runner"),
    "zerostor: pure core < ports": ("zerostor/stores/directory.py", "import zerostor.config"),
    "core is pure": ("zerostor/core/link.py", "import os"),
    "only wiring and the command": ("workers/runner.py", "import zerostor.stores.directory"),
    "store adapters do not know": ("zerostor/stores/directory.py", "import zerostor.stores.memory"),
    "zerostor runs without HTTP": ("zerostor/clock.py", "import aiohttp"),
    "no cycles anywhere": ("zerostor/core/errors.py", "import zerostor.core.settings"),
    "exhaustive": ("zerostor/helpers.py", "pass"),
}


def lint(folder: Path) -> dict[str, bool]:
    """Contract names, and whether each is kept."""
    run = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    found = subprocess.run(
        [sys.executable, "-c", run], cwd=folder, capture_output=True, text=True, check=False
    )
    kept = {
        name: f"{name} KEPT" in found.stdout
        for name in CONTRACTS
        if f"{name} KEPT" in found.stdout or f"{name} BROKEN" in found.stdout
    }
    # An exhaustive contract that finds a stranger stops the whole run with a message.
    stopped = "zerostor.helpers" in found.stdout + found.stderr
    assert set(kept) == set(CONTRACTS) or stopped, found.stdout + found.stderr
    return kept


def test_contracts_are_kept():
    assert [name for name, kept in lint(ROOT).items() if not kept] == []


def test_every_package_is_under_contract():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages == set(SETTINGS["root_packages"])


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_violation_is_noticed(tmp_path, name):
    for package in SETTINGS["root_packages"]:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path, line = PLANTS[name]
    with open(tmp_path / path, "a") as file:
        file.write(f"\n{line}\n")
    kept = lint(tmp_path)
    contracts = [contract for contract in kept if contract.startswith(name)]
    assert not kept or not all(kept[contract] for contract in contracts or kept)
