"""What the tidy tests look at: the Python files of the product, as git has them."""

from __future__ import annotations

import ast
import shutil
import subprocess
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gateway", "sshgw", "workers", "zerostor")
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source:
    """One file. name: dotted; path: relative to the project."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        parts = path.removesuffix(".py").removesuffix("/__init__").split("/")
        self.name = ".".join(parts)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def functions(self) -> list[Function]:
        return [node for node in ast.walk(self.tree) if isinstance(node, Function)]

    def at(self, node: ast.AST, what: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {what}"


def tracked_files() -> list[str]:
    """All files of the project; without git (an unpacked archive) what lies there."""
    if shutil.which("git") and (ROOT / ".git").exists():
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        names = listed.stdout.splitlines()
    else:
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
    return sorted(name for name in names if (ROOT / name).is_file() and ".venv/" not in name)


def product_sources() -> Iterator[Source]:
    for name in tracked_files():
        if name.endswith(".py") and name.split("/")[0] in PACKAGES:
            yield Source(name, (ROOT / name).read_text())


def length(function: Function) -> int:
    """Lines of a function without its docstring and decorators."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines
