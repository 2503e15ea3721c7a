"""How many may connect, and who has to go when there are too many. No I/O of its own."""

from __future__ import annotations

import collections
import logging
from collections.abc import Callable
from typing import Protocol

_log = logging.getLogger(__name__)

STRANGERS_MAX = 64
"""Connections that have not logged in yet: what a flood can hold."""
PATIENCE = 5.0
"""Seconds after which one that has not logged in gives its place to the next, when all are taken. A
login takes a fraction of a second, unless somebody types a passphrase."""
LOG_PERIOD = 10.0
"""Seconds between log lines of one kind; between them they are counted."""


class Guest(Protocol):
    """A connection, as much as matters here."""

    def abort(self) -> None:
        """Cut it off."""


class Admission:
    """connections: in all. user_connections: of one user. monotonic: seconds."""

    def __init__(self, connections: int, user_connections: int,
                 monotonic: Callable[[], float]) -> None:
        self._most = connections
        self._most_of_one = user_connections
        self._monotonic = monotonic
        self._strangers: dict[Guest, float] = {}
        self._users: dict[str, dict[Guest, str]] = collections.defaultdict(dict)
        self._known = 0
        self._told: dict[str, tuple[float, int]] = {}

    def full(self) -> str:
        """Why nobody more may even begin to log in, "" if somebody may."""
        reason = ""
        if self._known + len(self._strangers) >= self._most:
            reason = f"all {self._most} connections are in use"
        elif len(self._strangers) >= STRANGERS_MAX:
            reason = f"{len(self._strangers)} logins are under way"
        return "" if reason and self._make_place() else reason

    def arrived(self, guest: Guest) -> None:
        """It begins to log in."""
        self._strangers[guest] = self._monotonic()

    def _make_place(self) -> bool:
        eldest = next(iter(self._strangers), None)
        if eldest is None or self._monotonic() - self._strangers[eldest] < PATIENCE:
            return False
        del self._strangers[eldest]
        eldest.abort()
        self.tell("slow", "a connection that had not logged in made place for another")
        return True

    def logged_in(self, guest: Guest, user: str, fingerprint: str) -> str:
        """Why this user may not have another connection, "" if it may."""
        self._strangers.pop(guest, None)
        if len(self._users[user]) >= self._most_of_one:
            self.tell("user", f"{user} has {self._most_of_one} connections, and got no more")
            return f"{user} has {self._most_of_one} connections already"
        self._users[user][guest] = fingerprint
        self._known += 1
        return ""

    def left(self, guest: Guest, user: str) -> None:
        """It is gone."""
        self._strangers.pop(guest, None)
        if self._users.get(user, {}).pop(guest, None) is not None:
            self._known -= 1
            if not self._users[user]:
                del self._users[user]

    def of(self, user: str) -> list[tuple[Guest, str]]:
        """Who is logged in as `user`, each with the fingerprint of its key."""
        return list(self._users.get(user, {}).items())

    def everybody(self) -> list[Guest]:
        """Who is connected."""
        known = [guest for guests in self._users.values() for guest in guests]
        return [*self._strangers, *known]

    def tell(self, kind: str, line: str) -> None:
        """A warning in the log, at most one of its kind in LOG_PERIOD: a flood must not fill it."""
        now = self._monotonic()
        at, missed = self._told.get(kind, (-LOG_PERIOD, 0))
        if now < at + LOG_PERIOD:
            self._told[kind] = (at, missed + 1)
            return
        more = f" (and {missed} more such in the last {now - at:.0f} s)" if missed else ""
        _log.warning("%s%s", line, more)
        self._told[kind] = (now, 0)
