"""What happens to stores, as events."""

from __future__ import annotations

from zerostor.core.events import Event, EventKind, Severity
from zerostor.event_ports import EventLog


class StoreEvents:
    """Tells the log of events."""

    def __init__(self, events: EventLog) -> None:
        self._events = events

    def _append(self, severity: Severity, kind: EventKind, store: str, text: str) -> None:
        self._events.append(Event(severity=severity, kind=kind, subject=store, text=text))

    def lost(self, store: str) -> None:
        """It was down for too long."""
        self._append(Severity.FAILURE, EventKind.STORE_LOST, store,
                     f"store {store} is down for too long: what was on it is rebuilt elsewhere")

    def emptied(self, store: str) -> None:
        """Nothing names it any more."""
        self._append(Severity.NORMAL, EventKind.STORE_DRAINED, store,
                     f"store {store} is empty and may be unplugged")

    def added(self, store: str, url: str) -> None:
        """Somebody added it."""
        self._append(Severity.NORMAL, EventKind.STORE_ADDED, store,
                     f"store {store} was added, at {url}")

    def draining(self, store: str) -> None:
        """Somebody has it emptied."""
        self._append(Severity.NORMAL, EventKind.STORE_DRAINING, store,
                     f"store {store} gets nothing new and is emptied")

    def removed(self, store: str, *, lost: bool) -> None:
        """Somebody removed it. lost: with what was on it."""
        self._append(Severity.WARNING if lost else Severity.NORMAL, EventKind.STORE_REMOVED, store,
                     f"store {store} was removed" + (", what was on it counts as lost" if lost
                                                     else ""))
