"""The tables of the book of events, and what is done to them; each call within a transaction.

    events    what was told, by id
    waiting   what happened and is told later: normal events until their period is over, and how
              often one that was told happened again
    topics    what was said last of things that last
    holders   which process has a role
    marks     numbers under names; origin: what other hosts know this one by
    samples   how full stores were
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from zerostor.core import events
from zerostor.core.event_texts import activity_text
from zerostor.core.events import (
    EVENT_ID_MAX,
    OTHERS,
    SEVERITIES,
    Event,
    EventKind,
    FieldValue,
    Severity,
    Wanted,
)
from zerostor.core.forecast import Sample

FORMAT = 1
"""user_version of the file."""
APPLICATION = 0x5A53_4556
"""application_id: ZSEV."""
AGAIN_MS, AGAIN_MAX_MS = 60_000, 3_600_000
"""After which equal warnings and failures are told again, as one; each time twice as long."""
ALIKE = 100
"""Warnings or failures of one kind within that time; what comes beyond is told as one."""
TABLES = """
CREATE TABLE events (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, first INTEGER NOT NULL,
  severity INTEGER NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, text TEXT NOT NULL,
  fields TEXT NOT NULL, count INTEGER NOT NULL, origin TEXT NOT NULL, source INTEGER NOT NULL);
CREATE INDEX events_by_kind ON events (kind, id);
CREATE INDEX events_by_severity ON events (severity, id);
CREATE UNIQUE INDEX events_by_source ON events (origin, source) WHERE origin != '';
CREATE TABLE waiting (severity INTEGER, kind TEXT, subject TEXT, text TEXT NOT NULL,
  fields TEXT NOT NULL, count INTEGER NOT NULL, first INTEGER NOT NULL, at INTEGER NOT NULL,
  due INTEGER NOT NULL, pause INTEGER NOT NULL, PRIMARY KEY (severity, kind, subject))
  WITHOUT ROWID;
CREATE INDEX waiting_by_due ON waiting (due);
CREATE TABLE topics (topic TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE holders (role TEXT PRIMARY KEY, who TEXT NOT NULL, rank INTEGER NOT NULL,
  until INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE marks (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO marks VALUES ('origin', lower(hex(randomblob(8))));
CREATE TABLE samples (topic TEXT, at REAL, used INTEGER NOT NULL, total INTEGER NOT NULL,
  PRIMARY KEY (topic, at)) WITHOUT ROWID;
"""
_COLUMNS = "severity, kind, subject, text, fields, id, at, count, first, origin"
_FIELDS = msgspec.json.Decoder(dict[str, FieldValue])


TOPIC_MAX = 300
"""Characters of a topic."""


class Keeping(NamedTuple):
    """How events are kept. period_ms: how long normal ones are gathered; rows: of each severity,
    at most; keep_ms: the eldest.
    """

    period_ms: int = 60_000
    rows: int = 50_000
    keep_ms: int = 90 * 86_400_000


class Said(NamedTuple):
    """What is to be done to the tables. topic: for `event` only if `state` is new of it."""

    event: Event | None
    topic: str = ""
    state: str = ""


def take(book: sqlite3.Connection, said: Said, now: int, keeping: Keeping) -> None:
    """Tell `said` or have it wait. now: epoch milliseconds, as all times here."""
    if said.topic and not _is_new(book, said):
        return
    event = said.event
    if event is None:
        return
    if event.severity is Severity.NORMAL:
        if keeping.period_ms:
            _put_off(book, event, event.at_ms + keeping.period_ms, 0)
        else:
            tell(book, event, now)
    elif _is_again(book, event):
        _put_off(book, event, now, AGAIN_MS)
    elif _alike(book, event) >= ALIKE:
        _put_off(book, msgspec.structs.replace(event, subject=OTHERS), now + AGAIN_MS, AGAIN_MS)
    else:
        tell(book, event, now)
        book.execute("INSERT INTO waiting VALUES (?, ?, ?, '', '{}', 0, ?, ?, ?, ?)",
                     (*_key(event), now, now, now + AGAIN_MS, AGAIN_MS))


def tell(book: sqlite3.Connection, event: Event, now: int, source: int = 0) -> None:
    """Give `event` the next id. source: its id where it came from, of another host."""
    fresh = min(max(newest(book) + 1, now), EVENT_ID_MAX)
    book.execute("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (
        fresh, event.at_ms, event.since_ms or event.at_ms, *_key(event), event.text,
        _encoded(event), event.count, event.origin, source))


def tell_due(book: sqlite3.Connection, now: int, keeping: Keeping) -> None:
    """Tell what has waited long enough; of normal events all, so that they stand together."""
    if book.execute("SELECT 1 FROM waiting WHERE due <= ? LIMIT 1", (now,)).fetchone() is None:
        return
    rows = book.execute(
        "SELECT severity, kind, subject, text, fields, count, first, at, pause FROM waiting"
        " WHERE due <= ? OR severity = 0 ORDER BY at", (now,)).fetchall()
    for severity, kind, subject, text, fields, count, first, at, pause in rows:
        key = (severity, kind, subject)
        longer = min(2 * pause, AGAIN_MAX_MS)
        if not pause or not count:
            book.execute("DELETE FROM waiting WHERE severity = ? AND kind = ? AND subject = ?", key)
        else:
            book.execute("UPDATE waiting SET count = 0, first = ?, due = ?, pause = ? WHERE"
                         " severity = ? AND kind = ? AND subject = ?",
                         (now, now + longer, longer, *key))
        if not count:
            continue
        found = _event(severity, kind, subject, text, fields, 0, at, count, first, "")
        if found is not None:
            tell(book, _as_several(found), now)
    trim(book, now, keeping)


def next_due(book: sqlite3.Connection) -> int:
    """When something has waited long enough, or EVENT_ID_MAX."""
    (due,) = book.execute("SELECT min(due) FROM waiting").fetchone()
    return EVENT_ID_MAX if due is None else int(due)


def adopt(book: sqlite3.Connection, event: Event, now: int) -> None:
    """Tell an event of another host, unless it was told already, or the same was by somebody."""
    twin = book.execute(
        "SELECT 1 FROM events WHERE severity = ? AND kind = ? AND subject = ? AND origin != ?"
        " AND at BETWEEN ? AND ? LIMIT 1",
        (*_key(event), event.origin, event.at_ms - AGAIN_MS, event.at_ms + AGAIN_MS)).fetchone()
    if twin is None:
        tell(book, event, now, event.id)


def trim(book: sqlite3.Connection, now: int, keeping: Keeping) -> None:
    """Forget the eldest."""
    book.execute("DELETE FROM events WHERE at < ?", (now - keeping.keep_ms,))
    for rank in range(len(SEVERITIES)):
        book.execute("DELETE FROM events WHERE severity = ? AND id <= (SELECT id FROM events"
                     " WHERE severity = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
                     (rank, rank, keeping.rows))


def newest(book: sqlite3.Connection) -> int:
    """The highest id, 0 of none."""
    (found,) = book.execute("SELECT max(id) FROM events").fetchone()
    return found or 0


def read(book: sqlite3.Connection, after: int, limit: int, wanted: Wanted,
         *, newest_first: bool) -> list[Event]:
    """Those above `after`, the eldest or the newest of them."""
    where, values = ["id > ?", "severity >= ?"], [after, wanted.severity.rank]
    chosen = sorted(wanted.chosen) if wanted.kinds else []
    if wanted.kinds:
        where.append(f"kind IN ({', '.join('?' * len(chosen))})")
    order = "DESC" if newest_first else "ASC"
    rows = book.execute(
        f"SELECT {_COLUMNS} FROM events WHERE {' AND '.join(where)}"  # noqa: S608
        f" ORDER BY id {order} LIMIT ?", (*values, *chosen, limit))
    return [event for event in (_event(*row) for row in rows) if event is not None]


def hold(book: sqlite3.Connection, role: str, who: str, rank: int, now: int, until: int) -> bool:
    """Whether the role is `who`'s until then. One kept from before a clock went back is free."""
    book.execute("DELETE FROM holders WHERE role = ? AND (until <= ? OR until > ? OR rank < ?)",
                 (role, now, now + 3_600_000, rank))
    book.execute("INSERT INTO holders VALUES (?, ?, ?, ?) ON CONFLICT (role) DO UPDATE SET"
                 " until = excluded.until WHERE who = excluded.who", (role, who, rank, until))
    (found,) = book.execute("SELECT who FROM holders WHERE role = ?", (role,)).fetchone()
    return bool(found == who)


def mark(book: sqlite3.Connection, name: str) -> object:
    """What is kept under `name`, or None."""
    row = book.execute("SELECT value FROM marks WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None


def set_mark(book: sqlite3.Connection, name: str, value: int) -> None:
    """Keep it."""
    book.execute("INSERT INTO marks VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET"
                 " value = excluded.value", (name, value))


def add_samples(book: sqlite3.Connection, samples: Sequence[tuple[str, Sample]], oldest: float
                ) -> None:
    """Keep these, and none from before `oldest`, epoch seconds, or from the future."""
    book.executemany("INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?)",
                     [(topic, *sample) for topic, sample in samples])
    latest = max((sample.at for _, sample in samples), default=oldest)
    book.execute("DELETE FROM samples WHERE at < ? OR at > ?", (oldest, latest))


def samples(book: sqlite3.Connection) -> dict[str, list[Sample]]:
    """By topic, the eldest first."""
    found: dict[str, list[Sample]] = {}
    for topic, *sample in book.execute("SELECT * FROM samples ORDER BY topic, at"):
        found.setdefault(topic, []).append(Sample(*sample))
    return found


def _is_new(book: sqlite3.Connection, said: Said) -> bool:
    row = book.execute("SELECT state FROM topics WHERE topic = ?", (said.topic,)).fetchone()
    if said.state == (row[0] if row else ""):
        return False
    if said.state:
        book.execute("INSERT INTO topics VALUES (?, ?) ON CONFLICT (topic) DO UPDATE SET"
                     " state = excluded.state", (said.topic, said.state))
    else:
        book.execute("DELETE FROM topics WHERE topic = ?", (said.topic,))
    return True


def _is_again(book: sqlite3.Connection, event: Event) -> bool:
    return book.execute("SELECT 1 FROM waiting WHERE severity = ? AND kind = ? AND subject = ?",
                        _key(event)).fetchone() is not None


def _alike(book: sqlite3.Connection, event: Event) -> int:
    (count,) = book.execute(
        "SELECT count(*) FROM (SELECT 1 FROM waiting WHERE severity = ? AND kind = ? LIMIT ?)",
        (*_key(event)[:2], ALIKE)).fetchone()
    return int(count)


def _put_off(book: sqlite3.Connection, event: Event, due: int, pause: int) -> None:
    row = book.execute(
        "SELECT fields, count, first FROM waiting WHERE severity = ? AND kind = ? AND subject = ?",
        _key(event)).fetchone()
    if row is None:
        book.execute("INSERT INTO waiting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (
            *_key(event), event.text, _encoded(event), event.count,
            event.since_ms or event.at_ms, event.at_ms, due, pause))
        return
    fields, count, first = row
    if count:
        before = msgspec.structs.replace(event, fields=_decoded(fields), count=count, at_ms=first,
                                         since_ms=first)
        event = events.merged(before, event)
    book.execute(
        "UPDATE waiting SET text = ?, fields = ?, count = ?, first = ?, at = ? WHERE severity = ?"
        " AND kind = ? AND subject = ?",
        (event.text, _encoded(event), event.count, event.since_ms or event.at_ms, event.at_ms,
         *_key(event)))


def _as_several(event: Event) -> Event:
    if event.kind is EventKind.ACTIVITY:
        return msgspec.structs.replace(event, text=activity_text(event.fields), count=1)
    if event.subject == OTHERS:
        return msgspec.structs.replace(event, text=f"{event.count} more, the last: {event.text}")
    return event


def _key(event: Event) -> tuple[int, str, str]:
    return event.severity.rank, event.kind.value, event.subject


def _encoded(event: Event) -> str:
    return msgspec.json.encode(event.fields).decode()


def _decoded(fields: str) -> dict[str, FieldValue]:
    try:
        return _FIELDS.decode(fields)
    except (msgspec.DecodeError, UnicodeError):
        return {}


def _event(severity: int, kind: str, subject: str, text: str, fields: str, number: int,
           at: int, count: int, first: int, origin: str) -> Event | None:
    """None of a kind that a later version wrote."""
    try:
        return Event(severity=SEVERITIES[severity], kind=EventKind(kind), subject=subject,
                     text=text, fields=_decoded(fields), id=number, at_ms=at, count=count,
                     since_ms=first, origin=origin)
    except (ValueError, IndexError):
        return None
