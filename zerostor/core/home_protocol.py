"""What the gateway and the command line say to the SSH process about homes: JSON both ways.

The bodies are those of POST /api/ssh/...: the gateway hands them on as they came, after it looked
who asks.
"""

from __future__ import annotations

from typing import Any

import msgspec

from zerostor.core.errors import BadRequest, NotAllowed
from zerostor.core.homes import AutoProcess, Home, HomeEvent, HomeLink, HomeUsage, Quota, shown

MB = 1_000_000
OWN = "own"
"""Parameter of requests that a user made for his own home: he gets no more room than an admin gave
him, opens no home that an admin closed, and takes none away."""
LIMIT_MAX = 10**18
"""Bytes of a home; disks end earlier, SQLite and JSON later."""
QUIET_MAX = 86_400.0


class Auto(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """auto_process of a request. quiet: seconds."""

    quiet: float = AutoProcess().quiet
    link_files: bool = AutoProcess().link_files
    remove: bool = AutoProcess().remove


class OfUser(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request that names a user, by either word. Raises ValueError for none, or both."""

    username: str | None = None
    user: str | None = None

    def __post_init__(self) -> None:
        """Checked as it is read."""
        if (self.user is None) == (self.username is None):
            raise ValueError("whose home is meant is said by `username` or by `user`, once")

    @property
    def name(self) -> str:
        """Whose home is meant."""
        return self.username or self.user or ""


class Enable(OfUser, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """POST /api/ssh/enable. What is left out stays as it is, or is the default of a new home.

    auto_process: true means its defaults, false switches it off.
    """

    sshpubkey: str | None = None
    max_size_mb: float | None = None
    quota: str | None = None
    auto_process: Auto | bool | None = None

    @property
    def limit(self) -> int | None:
        """Bytes. Raises BadRequest."""
        if self.max_size_mb is None:
            return None
        if not 0 < self.max_size_mb <= LIMIT_MAX / MB:
            raise BadRequest("max_size_mb is a number of megabytes (1,000,000 bytes), above 0")
        return max(1, round(self.max_size_mb * MB))

    @property
    def how_full(self) -> Quota | None:
        """What happens to what does not fit. Raises BadRequest."""
        try:
            return None if self.quota is None else Quota(self.quota)
        except ValueError:
            raise BadRequest('quota is "refuse" or "drop-oldest"') from None

    @property
    def auto(self) -> AutoProcess | msgspec.UnsetType | None:
        """UNSET: as it is. None: off. Raises BadRequest."""
        if self.auto_process is None:
            return msgspec.UNSET
        if self.auto_process is False:
            return None
        asked = Auto() if self.auto_process is True else self.auto_process
        if not 0 <= asked.quiet <= QUIET_MAX:
            raise BadRequest(f"auto_process.quiet is 0 to {QUIET_MAX:g} seconds")
        return AutoProcess(asked.quiet, asked.link_files, asked.remove)


    def require_own(self) -> None:
        """Raise NotAllowed for what no user may change of his own home."""
        if self.max_size_mb is not None or self.quota is not None:
            raise NotAllowed("how large a home is and what happens when it is full is said by an"
                             " admin: leave out max_size_mb and quota")


class Disable(OfUser, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """POST /api/ssh/disable. fingerprint: of the one key that is meant; None: of the whole user.

    delete_files: take the home away for good; unstored: also files that are not stored.
    """

    fingerprint: str | None = None
    delete_files: bool = False
    unstored: bool = False

    def require_own(self) -> None:
        """Raise NotAllowed for what no user may change of his own home."""
        if self.fingerprint is None or self.delete_files:
            raise NotAllowed("an admin closes a home; name the fingerprint of a key to revoke it")


class Process(OfUser, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """POST /api/ssh/process. path: a file or folder within the home."""

    path: str
    remove: bool = False


def home_answer(home: Home, usage: HomeUsage | None) -> dict[str, Any]:
    """A home as JSON. usage: None while it is not known."""
    auto = home.auto
    return {
        "user": home.user, "enabled": home.enabled, "limit": home.limit,
        "quota": str(home.quota), "auto_process": None if auto is None else {
            "quiet": auto.quiet, "link_files": auto.link_files, "remove": auto.remove},
        "keys": [{"fingerprint": key.fingerprint, "comment": key.comment, "added": key.added}
                 for key in home.keys],
        **({} if usage is None else usage_answer(usage)),
    }


def usage_answer(usage: HomeUsage) -> dict[str, int]:
    """How full a home is, bytes and files."""
    return {"used": usage.used, "limit": usage.limit, "free": usage.free, "files": usage.files}


def link_answer(link: HomeLink) -> dict[str, Any]:
    """A link as JSON."""
    return {"path": shown(link.path), "link": f"/{link.link}", "hash": link.link[:56],
            "size": link.size, "at": link.at, "number": link.number}


def event_answer(event: HomeEvent) -> dict[str, Any]:
    """An event as JSON."""
    return {"at": event.at, "kind": event.kind, "path": shown(event.path),
            "detail": event.detail, "size": event.size}
