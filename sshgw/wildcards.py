"""Wildcards in the paths that a client sends, which a shell would have resolved."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterable, Iterator

from zerostor.core.errors import BadRequest
from zerostor.core.limits import HOME_ENTRIES_MAX
from zerostor.core.rsync_arguments import RsyncPath
from zerostor.home_ports import HomeFolder

MATCHES_MAX = 10_000
"""More are refused: the arguments of a program have a bound."""
LOOKS_MAX = 2 * HOME_ENTRIES_MAX
"""Names that are gone through for one command: a few words of a command can ask for all of a home,
thousands of times."""
_WILD = re.compile(r"[*?[]")


def expand(folder: HomeFolder, paths: Iterable[RsyncPath]) -> list[str]:
    """What they match, each sorted, as a shell has it: relative, hidden names only if asked for.

    The text of a path itself where nothing does. Walks folders. Raises BadRequest, OSError.
    """
    search, found = _Search(folder), list[str]()
    for path in paths:
        found += search.matching(path) if path.wild else [path.text]
        if len(found) > MATCHES_MAX:
            raise _too_many()
    return found


class _Search:
    """Of one command."""

    def __init__(self, folder: HomeFolder) -> None:
        self._folder = folder
        self._looks = 0

    def matching(self, path: RsyncPath) -> list[str]:
        found = [""]
        *folders, last = path.wild.split("/")
        for part in folders:
            found = _bounded(one for start in found for one in self._below(start, part))
        found = _bounded(one for start in found for one in self._matches(start, last))
        return sorted(f"./{one}" if one.startswith("-") else one for one in found) or [path.text]

    def _below(self, start: str, part: str) -> Iterator[str]:
        """Folders in `start`, which is empty or ends in /, and so do they."""
        for name in self._matches(start, part):
            path = b"/" + os.fsencode(name)
            if not part or stat.S_ISDIR(self._folder.stat(path).st_mode):
                yield name.rstrip("/") + "/"

    def _matches(self, start: str, part: str) -> Iterator[str]:
        self._look()
        if part in ("", "."):
            yield start + part
            return
        if not _WILD.search(part):
            if self._is_there(start + part):
                yield start + part
            return
        for name, _ in self._folder.names(b"/" + os.fsencode(start)):
            self._look()
            text = os.fsdecode(name)
            if fnmatch.fnmatchcase(text, part) and text.startswith(".") <= part.startswith("."):
                yield start + text

    def _is_there(self, path: str) -> bool:
        try:
            self._folder.stat(b"/" + os.fsencode(path))
        except OSError:
            return False
        return True

    def _look(self) -> None:
        self._looks += 1
        if self._looks > LOOKS_MAX:
            raise BadRequest("these wildcards go through too many names; name a folder")


def _bounded(paths: Iterator[str]) -> list[str]:
    found = []
    for path in paths:
        found.append(path)
        if len(found) > MATCHES_MAX:
            raise _too_many()
    return found


def _too_many() -> BadRequest:
    return BadRequest(f"wildcards match more than {MATCHES_MAX:,} names; name a folder")
