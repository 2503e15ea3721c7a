"""Wildcards in the paths that a client sends, which a shell would have resolved."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterator

from zerostor.core.errors import BadRequest
from zerostor.home_ports import HomeFolder

MATCHES_MAX = 10_000
"""More are refused: the arguments of a program have a bound."""
_WILD = re.compile(r"[*?[]")


def expand(folder: HomeFolder, text: str, wild: str) -> list[str]:
    """What `wild` matches, sorted, as a shell has it: relative, hidden names only if asked for.

    `text` itself where nothing does. Blocking: for a thread. Raises BadRequest, OSError.
    """
    found = [""]
    *folders, last = wild.split("/")
    for part in folders:
        found = _bounded(path for start in found for path in _below(folder, start, part))
    found = _bounded(path for start in found for path in _matches(folder, start, last))
    return sorted(f"./{path}" if path.startswith("-") else path for path in found) or [text]


def _below(folder: HomeFolder, start: str, part: str) -> Iterator[str]:
    """Folders in `start`, which is empty or ends in /, and so do they."""
    for name in _matches(folder, start, part):
        path = b"/" + os.fsencode(name)
        if not part or stat.S_ISDIR(folder.stat(path).st_mode):
            yield name.rstrip("/") + "/"


def _matches(folder: HomeFolder, start: str, part: str) -> Iterator[str]:
    if part in ("", "."):
        yield start + part
        return
    if not _WILD.search(part):
        if _is_there(folder, start + part):
            yield start + part
        return
    for name, _ in folder.names(b"/" + os.fsencode(start)):
        text = os.fsdecode(name)
        if fnmatch.fnmatchcase(text, part) and text.startswith(".") <= part.startswith("."):
            yield start + text


def _is_there(folder: HomeFolder, path: str) -> bool:
    try:
        folder.stat(b"/" + os.fsencode(path))
    except OSError:
        return False
    return True


def _bounded(paths: Iterator[str]) -> list[str]:
    found = []
    for path in paths:
        found.append(path)
        if len(found) > MATCHES_MAX:
            raise BadRequest(f"a wildcard matches more than {MATCHES_MAX:,} names")
    return found
