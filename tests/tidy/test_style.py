"""The house style as a test: budgets, names, docstrings. Each rule is also shown a sinner."""

from __future__ import annotations

import ast
import importlib.util
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tidy.source_tree import ROOT, Function, Source, length, product_sources

SOURCES = list(product_sources())
BANNED = {
    "util",
    "utils",
    "helper",
    "helpers",
    "manager",
    "managers",
    "common",
    "misc",
    "info",
    "tmp",
}
COMMAND_LINE = ("gateway.cli", "gateway.commands.", "gateway.bench.")
"""Modules that import inside functions, so that a command loads only what it runs."""
SETTINGS_READER = "zerostor.config"
STARTED = {
    "gateway.__main__": "python -m gateway",
    "gateway.lifeline": "python -m gateway.lifeline, by the supervisor",
    "gateway.bench.floors": "python -m gateway.bench.floors, by the bench",
    "zerostor.stores.memory": "for trying things out, and for tests",
    "zerostor.queue.memory": "for trying things out, and for tests",
    "zerostor.metadata.memory": "for trying things out, and for tests",
}
"""Modules that nothing imports, and why they are there all the same."""


def long_files(source: Source) -> Iterator[str]:
    count = source.text.count("\n")
    if count > 400:
        yield f"{source.path}: {count} lines"


def long_lines(source: Source) -> Iterator[str]:
    for number, line in enumerate(source.text.splitlines(), 1):
        if len(line) > 100:
            yield f"{source.path}:{number}: {len(line)} characters"


def long_functions(source: Source) -> Iterator[str]:
    for function in source.functions:
        if length(function) > 60:
            yield source.at(function, f"{function.name} has {length(function)} lines")


def untyped_functions(source: Source) -> Iterator[str]:
    for function in source.functions:
        arguments = function.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
        bare = [one.arg for one in every if one.annotation is None]
        if function.returns is None or set(bare) - {"self", "cls"}:
            yield source.at(function, f"{function.name} is not fully typed")


def prints(source: Source) -> Iterator[str]:
    scripts = [node for node in source.tree.body if ast.unparse(node).startswith("if __name__")]
    fine = {inside for script in scripts for inside in ast.walk(script)}
    for node in ast.walk(source.tree):
        if node in fine or not isinstance(node, ast.Call):
            continue
        if ast.unparse(node.func) in ("print", "sys.stdout.write"):
            yield source.at(node, "print; the command line uses click.echo, the rest logging")


def readers_of_the_environment(source: Source) -> Iterator[str]:
    if source.name == SETTINGS_READER:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and re.fullmatch(
            r"os\.(environb?|getenvb?|putenv)", ast.unparse(node)
        ):
            yield source.at(node, f"{ast.unparse(node)}; only {SETTINGS_READER} reads it")


def hidden_imports(source: Source) -> Iterator[str]:
    if source.name.startswith(COMMAND_LINE):
        return
    for function in source.functions:
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield source.at(node, f"import inside {function.name}")


def names_of(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """What the file gives a name to. Names that it only uses are somebody else's."""
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.ClassDef):
            yield node, node.name
        elif isinstance(node, ast.arg):
            yield node, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node, node.attr


def banned_names(source: Source) -> Iterator[str]:
    words = set(source.name.split("."))
    for word in words & BANNED:
        yield f"{source.path}: a module named {word}"
    counts = shard_counts(source.tree)
    for node, name in names_of(source.tree):
        parts = set(re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower().split("_"))
        if parts & BANNED or (name.strip("_") == "data" and node not in counts):
            yield source.at(node, f"the name {name}")


def shard_counts(tree: ast.Module) -> set[ast.AST]:
    """Places where `data` counts shards: annotated int, a len(), or bound beside `parity`."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, Function) and node.returns and ast.unparse(node.returns) == "int":
            found.add(node)
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("len("):
            found |= set(node.targets)
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            if ast.unparse(node.annotation) == "int":
                found.add(node.target if isinstance(node, ast.AnnAssign) else node)
        elif isinstance(node, Function | ast.Tuple):
            bound = list(names_of(ast.Module([node], [])))  # type: ignore[list-item]
            if any(name.strip("_") == "parity" for _, name in bound):
                found |= {place for place, _ in bound}
    return found


def undocumented(source: Source) -> Iterator[str]:
    if not source.name.startswith("zerostor"):
        return
    if ast.get_docstring(source.tree) is None:
        yield f"{source.path}: the module has no docstring"
    yield from _undocumented(source, source.tree.body)


def _undocumented(source: Source, body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            if ast.get_docstring(node) is None:
                yield source.at(node, f"{node.name} has no docstring")
            if isinstance(node, ast.ClassDef):
                yield from _undocumented(source, node.body)


def essays(source: Source) -> Iterator[str]:
    """More comments than 8% of the lines, in files large enough to tell."""
    tokens = tokenize.generate_tokens(io.StringIO(source.text).readline)
    comments = sum(token.type == tokenize.COMMENT for token in tokens)
    lines = sum(1 for line in source.text.splitlines() if line.strip())
    if lines > 50 and comments > 0.08 * lines:
        yield f"{source.path}: {comments} comments in {lines} lines"


RULES: list[Callable[[Source], Iterator[str]]] = [
    long_files,
    long_lines,
    long_functions,
    untyped_functions,
    prints,
    readers_of_the_environment,
    hidden_imports,
    banned_names,
    undocumented,
    essays,
]

SINNERS = {
    "long_files": "x = 1\n" * 401,
    "long_lines": "x = '" + "x" * 100 + "'\n",
    "long_functions": "def f() -> None:\n" + "    x = 1\n" * 60,
    "untyped_functions": "def f(x) -> None: ...\n",
    "prints": "print(1)\n",
    "readers_of_the_environment": "import os\nx = os.environ['HOME']\n",
    "hidden_imports": "def f() -> None:\n    import os\n",
    "banned_names": "def f(data: bytes) -> None: ...\n",
    "undocumented": '"""Module."""\nclass C:\n    """C."""\n    def f(self) -> None: ...\n',
    "essays": "x = 1\n# why\n" * 30,
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule(rule):
    assert SOURCES
    sins = [sin for source in SOURCES for sin in rule(source)]
    assert not sins, "\n" + "\n".join(sins)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_bites(rule):
    assert list(rule(Source("zerostor/sinner.py", SINNERS[rule.__name__])))


@pytest.mark.parametrize(
    ("text", "banned"),
    [
        ("data, parity = 16, 4", False),
        ("class P:\n    data: int = 16", False),
        ("def f(data: int) -> None: ...", False),
        ("data = read()", True),
        ("metadata = read()", False),
        ("def file_info() -> None: ...", True),
        ("class ThreadManager: ...", True),
        ("self.tmp = 1", True),
        ("information = 1", False),
    ],
)
def test_banned_names_are_told_from_fine_ones(text, banned):
    assert bool(list(banned_names(Source("zerostor/x.py", text)))) is banned
    assert list(banned_names(Source("zerostor/utils.py", "")))


def test_functions_are_short_as_a_rule():
    lengths = sorted(length(function) for source in SOURCES for function in source.functions)
    assert lengths[len(lengths) // 2] <= 8
    assert lengths[len(lengths) * 9 // 10] <= 30


def imported(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_module_is_dead():
    used = {name for source in SOURCES for name in imported(source) if name != source.name}
    cli = (ROOT / "gateway/cli.py").read_text()
    dead = [
        source.name
        for source in SOURCES
        if source.name not in used | set(STARTED)
        and f'"{source.name}"' not in cli
        and not source.path.endswith("__init__.py")
    ]
    assert dead == []


def test_what_is_started_by_name_is_there():
    for name in STARTED:
        path = name.replace(".", "/") + ".py"
        assert (ROOT / path).exists() or "memory" in name, name


def test_ruff():
    run("ruff", "check", ".")


def test_mypy_strict():
    run("mypy")


def run(module: str, *arguments: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    found = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, "\n" + (found.stdout + found.stderr)[:8000]


def test_every_test_file_is_found_by_pytest():
    strays = [
        str(path.relative_to(ROOT))
        for path in Path(ROOT / "tests").rglob("*.py")
        if re.search(r"^(async )?def test_", path.read_text(), re.MULTILINE)
        and not path.name.startswith("test_")
    ]
    assert strays == []
