"""Events as plain values: what happened to this zerostor that its operator should know of."""

from __future__ import annotations

import enum
from typing import NamedTuple, TypeAlias

import msgspec

TEXT_MAX, SUBJECT_MAX, FIELDS_MAX = 500, 200, 16
"""Characters of a text and of a subject or other name; fields of one event."""
EVENT_ID_MAX = 2**53 - 1
"""Largest id: what a program in a browser can count to."""
OTHERS = "*"
"""Subject of an event that stands for many of its kind, which differ in what they are about."""
FieldValue: TypeAlias = int | float | str | bool


class Severity(enum.StrEnum):
    """NORMAL: good to know, told once a period. WARNING: look at it soon. FAILURE: something does
    not work, or something is lost.
    """

    NORMAL = "normal"
    WARNING = "warning"
    FAILURE = "failure"

    @property
    def rank(self) -> int:
        """0 to 2; the higher the worse."""
        return SEVERITIES.index(self)


SEVERITIES = tuple(Severity)
"""By rank."""


class EventKind(enum.StrEnum):
    """What may happen. The word before the first - is what a filter may name as well."""

    STORE_DOWN = "store-down"
    STORE_SLOW = "store-slow"
    STORE_READ_ONLY = "store-read-only"
    STORE_FULL = "store-full"
    STORE_UP = "store-up"
    STORE_ADDED = "store-added"
    STORE_DRAINING = "store-draining"
    STORE_DRAINED = "store-drained"
    STORE_REMOVED = "store-removed"
    STORE_LOST = "store-lost"
    CAPACITY = "capacity"
    CORRUPTION_FOUND = "corruption-found"
    CORRUPTION_MENDED = "corruption-mended"
    OBJECT_ENDANGERED = "object-endangered"
    OBJECT_UNREADABLE = "object-unreadable"
    OBJECT_REMOVED = "object-removed"
    OBJECT_RESTORED = "object-restored"
    OBJECT_QUARANTINED = "object-quarantined"
    OBJECT_RELEASED = "object-released"
    OBJECTS_RECLAIMED = "objects-reclaimed"
    JOB_FAILED = "job-failed"
    REPAIR_FAILED = "repair-failed"
    SCRUB_FINISHED = "scrub-finished"
    ORPHANS_FOUND = "orphans-found"
    REPLICATION_LAGS = "replication-lags"
    REPLICATION_CAUGHT_UP = "replication-caught-up"
    REPLICATION_CUT_OFF = "replication-cut-off"
    REPLICATION_DIFFERS = "replication-differs"
    REPLICATION_ROLE = "replication-role"
    METADATA_AWAY = "metadata-away"
    METADATA_BACK = "metadata-back"
    NODE_JOINED = "node-joined"
    NODE_LEFT = "node-left"
    NODE_TROUBLE = "node-trouble"
    NODE_CHANGED = "node-changed"
    HOME_REMOVALS = "home-removals"
    HOME_FAILED = "home-failed"
    CERTIFICATE_EXPIRES = "certificate-expires"
    CERTIFICATE_RENEWED = "certificate-renewed"
    LOGINS_REFUSED = "logins-refused"
    ACTIVITY = "activity"
    EVENTS_LOST = "events-lost"


ENDINGS = frozenset((EventKind.STORE_UP, EventKind.REPLICATION_CAUGHT_UP, EventKind.METADATA_BACK,
                     EventKind.CERTIFICATE_RENEWED))
"""Events that say that something which was worse is over."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What happened. subject: the store, object, job, node or home it is about. text: one sentence
    for a person. fields: the same for programs; no secrets in any of them.

    at_ms: epoch milliseconds; 0 until it is appended, as is `id`, which grows with each. count:
    how often it happened since `since_ms`, where it stands for several. origin: the host it came
    from, empty for this one.
    """

    severity: Severity
    kind: EventKind
    subject: str = ""
    text: str = ""
    fields: dict[str, FieldValue] = {}
    id: int = 0
    at_ms: int = 0
    count: int = 1
    since_ms: int = 0
    origin: str = ""

    @property
    def key(self) -> tuple[Severity, EventKind, str]:
        """What equal events have in common."""
        return self.severity, self.kind, self.subject


class Wanted(NamedTuple):
    """Which events: of `severity` or worse; of one of `kinds`, words or beginnings of words up to
    a -, where any are named.
    """

    severity: Severity = Severity.NORMAL
    kinds: tuple[str, ...] = ()

    def fits(self, event: Event) -> bool:
        """Whether `event` is one of them."""
        return event.severity.rank >= self.severity.rank and (
            not self.kinds or event.kind.value in self.chosen)

    @property
    def chosen(self) -> frozenset[str]:
        """The kinds themselves, all of them where none is named."""
        return frozenset(kind.value for kind in EventKind if not self.kinds or any(
            kind.value == word or kind.value.startswith(f"{word}-") for word in self.kinds))


ALL = Wanted()


def bounded(event: Event) -> Event:
    """`event` with no more in it than one may have."""
    fields = {str(name)[:SUBJECT_MAX]: _short(value, SUBJECT_MAX)
              for name, value in list(event.fields.items())[:FIELDS_MAX]}
    return msgspec.structs.replace(
        event, subject=str(_short(event.subject, SUBJECT_MAX)),
        text=str(_short(event.text, TEXT_MAX)), fields=fields)


def kind_words() -> frozenset[str]:
    """What asks for kinds: each of them, and the word before the - of some."""
    whole = [kind.value for kind in EventKind]
    return frozenset([*whole, *(kind.partition("-")[0] for kind in whole)])


def described(event: Event) -> dict[str, object]:
    """An event as JSON; times are seconds since the epoch."""
    return {"id": event.id, "at": event.at_ms / 1000, "since": event.since_ms / 1000,
            "severity": event.severity.value, "kind": event.kind.value, "subject": event.subject,
            "text": event.text, "count": event.count, "origin": event.origin,
            "fields": event.fields}


def merged(one: Event, later: Event) -> Event:
    """What stands for both of two equal events. Of ACTIVITY the fields are added up."""
    fields = later.fields
    if later.kind is EventKind.ACTIVITY:
        fields = {name: _sum(one.fields.get(name, 0), later.fields.get(name, 0))
                  for name in one.fields | later.fields}
    return msgspec.structs.replace(later, fields=fields, count=one.count + later.count,
                                   since_ms=one.since_ms or one.at_ms)


def _short(value: FieldValue, most: int) -> FieldValue:
    if not isinstance(value, str):
        # SQLite and JSON alike end at 64 bits.
        return value if not isinstance(value, int) or abs(value) < 2**63 else str(value)
    plain = value.encode("utf-8", "backslashreplace").decode()
    return plain if len(plain) <= most else f"{plain[:most - 1]}…"


def _sum(one: FieldValue, other: FieldValue) -> FieldValue:
    if isinstance(one, str) or isinstance(other, str):
        return other
    return one + other
