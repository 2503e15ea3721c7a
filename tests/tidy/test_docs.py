"""The documents cannot lag: all that a user can see is named in them, and what they name exists."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator

import pytest

from gateway.cli import COMMANDS
from tests.tidy.source_tree import PACKAGES, ROOT, tracked_files
from zerostor.core import errors
from zerostor.core.jobs import JobState
from zerostor.core.settings import SECTIONS, Policy, StoreSettings

DOCUMENTS = {
    name: (ROOT / name).read_text() if (ROOT / name).exists() else ""
    for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")
}
TEXT = DOCUMENTS["README.md"] + DOCUMENTS["ARCHITECTURE.md"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PATH = re.compile(
    rf"(?<![\w/.-])((?:{'|'.join(PACKAGES)}|tests|firmware|\.ci)/[\w./*-]*[\w*/]"
    r"|(?:pyproject\.toml|Makefile|Dockerfile|compose\.yaml|constraints\.txt|LICENSE)\b)"
)


def codes(kind: type[errors.ZerostorError] = errors.ZerostorError) -> Iterator[str]:
    yield kind.code
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from codes(below)


def routes() -> Iterator[str]:
    """Every path in the route table of gateway/app.py."""
    tree = ast.parse((ROOT / "gateway/app.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            path = node.args[0].value
            if isinstance(path, str) and path.startswith("/"):
                yield path


def settings() -> Iterator[str]:
    for section, kind in SECTIONS.items():
        yield from (f"{section}.{key}" for key in kind.__struct_fields__)
    yield from (f"policy.{key}" for key in Policy.__struct_fields__)
    yield from (f"store.{key}" for key in StoreSettings.__struct_fields__)


def documented_settings() -> set[str]:
    """section.key of all TOML blocks, of `section.key` in the text, and of variables."""
    found = set(re.findall(r"\b([a-z]+\.[a-z_]+)\b", TEXT))
    for variable in re.findall(r"ZEROSTOR_([A-Z_]+)", TEXT):
        section, _, key = variable.lower().partition("_")
        found.add(f"{section}.{key}")
    for language, block in BLOCK.findall(TEXT):
        if language == "toml":
            for section, table in tomllib.loads(block).items():
                inside = table if section in ("policy", "store") else {"": table}
                tables = inside.values() if isinstance(inside, dict) else inside
                found |= {f"{section}.{key}" for one in tables for key in one}
    return found


def plain(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_document_is_there(name):
    assert len(DOCUMENTS[name]) > 200


def test_every_setting_is_documented():
    # Of these the file form is what one writes; the value comes from it or the environment.
    assert sorted(set(settings()) - documented_settings() - {"store.password"}) == []


def test_every_command_is_documented():
    assert [name for name in COMMANDS if not re.search(rf"\bzerostor {name}\b", TEXT)] == []


def test_every_route_is_documented():
    found = list(routes())
    assert len(found) >= 10
    assert [path for path in found if plain(path) not in plain(TEXT)] == []


def test_every_error_code_is_documented():
    assert sorted({code for code in codes() if f"`{code}`" not in TEXT}) == []


def test_every_job_state_is_documented():
    assert [state for state in JobState if not re.search(rf"\b{state}\b", TEXT)] == []


def test_every_path_that_is_named_exists():
    files = tracked_files()
    folders = {"/".join(name.split("/")[:depth]) for name in files for depth in range(1, 9)}
    named = {found.rstrip("/") for text in DOCUMENTS.values() for found in PATH.findall(text)}
    assert named or not TEXT
    missing = [
        path
        for path in named
        if path not in folders and not ("*" in path and list(ROOT.glob(path)))
    ]
    assert sorted(missing) == []


def test_toml_in_the_documents_is_toml():
    for text in DOCUMENTS.values():
        for language, block in BLOCK.findall(text):
            if language == "toml":
                tomllib.loads(block)


def test_paths_are_recognised():
    text = "see `gateway/cli.py`, zerostor/core/, tests/unit/test_*.py. and http://x/gateway/y"
    assert PATH.findall(text) == ["gateway/cli.py", "zerostor/core/", "tests/unit/test_*.py"]
