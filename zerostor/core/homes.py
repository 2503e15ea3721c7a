"""Homes as plain values: who may log in, what a home holds, what was stored from it."""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

import msgspec

from zerostor.core.errors import BadRequest

_USER = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,31}", re.ASCII)
UNFINISHED = (".part", ".filepart", ".partial", ".tmp", ".crdownload")
"""Endings that clients give to files that are still on their way; nothing is stored by itself under
such a name."""
PATH_MAX = 4096
"""Longest path that is taken; the kernel takes one byte less."""
LINK_SUFFIX = ".link"
"""Behind the name of a file: where its link is written."""


class Quota(enum.StrEnum):
    """What happens to a write that does not fit: it is refused, or the oldest files go for it."""

    REFUSE = "refuse"
    DROP_OLDEST = "drop-oldest"


class HomeKey(msgspec.Struct, frozen=True):
    """A public key that may log in. line: as authorized_keys has it, without its comment.

    fingerprint: SHA256:..., as ssh-keygen -l prints it. added: epoch seconds.
    """

    fingerprint: str
    line: str
    comment: str
    added: float


class AutoProcess(msgspec.Struct, frozen=True):
    """How finished uploads are stored by themselves.

    quiet: seconds without a change. link_files: write NAME.link beside each. remove: take the file
    away once it is stored.
    """

    quiet: float = 10.0
    link_files: bool = True
    remove: bool = False


class Home(msgspec.Struct, frozen=True):
    """One user's home. limit: bytes that its files may have together. added: epoch seconds.

    A home that is not enabled keeps its files and lets nobody in.
    """

    user: str
    limit: int
    added: float
    enabled: bool = True
    quota: Quota = Quota.REFUSE
    auto: AutoProcess | None = None
    keys: tuple[HomeKey, ...] = ()


class HomeUsage(NamedTuple):
    """used, limit: bytes; the sum of the sizes of the files, holes and all. files: how many."""

    used: int
    limit: int
    files: int

    @property
    def free(self) -> int:
        """Bytes that still fit."""
        return max(0, self.limit - self.used)


class HomeJob(msgspec.Struct, frozen=True):
    """A file or folder on its way into the store. job: as the gateway's status knows it.

    path: within the home, / in front; bytes, as file names are. auto: nobody asked, the home stores
    by itself. link: what it was stored as, where its end has begun.
    """

    job: str
    user: str
    path: bytes
    remove: bool
    added: float
    auto: bool = False
    link: str = ""


class HomeLink(msgspec.Struct, frozen=True):
    """What was stored from a home. link: HASH.ext. at: epoch seconds.

    number: its place among all links, given by the book.
    """

    path: bytes
    link: str
    size: int
    at: float
    number: int = 0


class HomeEvent(msgspec.Struct, frozen=True):
    """What happened in a home without its user's doing. kind: one word of `HomeEvents`."""

    at: float
    user: str
    kind: str
    path: bytes
    detail: str = ""
    size: int = 0


class HomeEvents(enum.StrEnum):
    """REMOVED: for room. STORED, FAILED: how a job ended. KEPT: stored, but changed meanwhile, so
    not removed."""

    REMOVED = "removed"
    STORED = "stored"
    FAILED = "failed"
    KEPT = "kept"


def names_along(path: bytes) -> list[bytes]:
    """The names in `path`; . and .. are resolved, and above the home is the home."""
    found: list[bytes] = []
    for name in path.split(b"/"):
        if name == b"..":
            del found[-1:]
        elif name not in (b"", b"."):
            found.append(name)
    return found


def within(path: bytes) -> bytes:
    """`path` as walks spell it: / in front, none at its end, no . and .. left."""
    return b"/" + b"/".join(names_along(path))


def shown(path: bytes) -> str:
    """A path for people and JSON; bytes that are no UTF-8 as \\xNN."""
    return path.decode("utf-8", "backslashreplace")


def is_user_name(text: str) -> bool:
    """Whether it may name a user, and so a folder."""
    return _USER.fullmatch(text) is not None


def user_name(text: str) -> str:
    """`text` if it may name a user, and so a folder. Raises BadRequest."""
    if not is_user_name(text):
        raise BadRequest("a user name is 1 to 32 of a-z 0-9 _ . - and begins with a letter, a digit"
                         " or _")
    return text
