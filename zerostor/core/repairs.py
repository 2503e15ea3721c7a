"""Repairs as plain values: what came of one, how they go, and their form on the board."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from zerostor.core.msgpack import UNDECODABLE

STATE = "repair"
"""Name of the published RepairState."""
HELD = "repair-held"
"""Name of the published list of asks that a keeper took off the board and has not done."""
NEVER_WRITTEN = "a shard was never written"
WRITTEN_TO = "its volume is still written to: later"
STORE_LOST = "a store counts no more"


class Mended(msgspec.Struct, frozen=True):
    """A shard that was made again, or would be. store: where it is then; before: where the record
    said, empty if it was never written. was: "missing", "corrupt", "unwritten", "lost" (its store
    counts no more) or "leaving" (its store is to be emptied). reason: for people.
    """

    shard: int
    store: str
    before: str
    was: str
    reason: str


class Outcome(msgspec.Struct):
    """What came of a repair. state: "healthy" if nothing was wrong; "repaired"; "degraded" if
    something is left, see `left`; "unreadable"; "gone" if the record has no shards any more.

    good, needed, total: shards, as they were found. read, written: bytes.
    """

    metadata_id: int
    state: str = "healthy"
    good: int = 0
    needed: int = 0
    total: int = 0
    mended: list[Mended] = []
    left: list[str] = []
    read: int = 0
    written: int = 0


class RepairJob(msgspec.Struct):
    """A repair that somebody polls. state: as of a job. told: when, in seconds since the epoch.

    spare: as of the ask.
    """

    job: str
    metadata_id: int
    state: str
    detail: str = ""
    outcome: Outcome | None = None
    told: float = 0.0
    spare: int = 0


class RepairState(msgspec.Struct):
    """How repairs go, since the keeper leads. done, failed: stripe sets; shards: made again.

    waiting, asked: stripe sets in the keeper's memory, and on the board. by_spare: of the waiting
    ones, how many have so many good shards beyond those that are needed. current: metadata ids.
    rate: bytes a second of late, read and written. eta: seconds until none waits, None if unknown.
    scanned: when all records were looked through last, in seconds since the epoch. What was found
    then: found, to be repaired; short: stripe sets by how many shards they lack, whether or not
    there is a store for them; least_spare: how many more the most endangered of all can lose while
    the stores are as they are, None of none.
    at: when this was said.
    """

    done: int = 0
    failed: int = 0
    shards: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    waiting: int = 0
    asked: int = 0
    by_spare: dict[str, int] = {}
    current: list[int] = []
    rate: float = 0.0
    eta: float | None = None
    scanned: float = 0.0
    found: int = 0
    short: dict[str, int] = {}
    least_spare: int | None = None
    at: float = 0.0


_asks_decoder = msgspec.json.Decoder(list[tuple[int, int, str, str]])
_job_decoder = msgspec.json.Decoder(RepairJob)
_state_decoder = msgspec.json.Decoder(RepairState)


def job_name(job: str) -> str:
    """What the state of a job is published as."""
    return f"repair-{job}"


def encode_state(state: RepairJob | RepairState) -> bytes:
    """As JSON."""
    return msgspec.json.encode(state)


def decode_job(stored: bytes | None) -> RepairJob | None:
    """What was published of a job; None also for what makes no sense."""
    try:
        return None if stored is None else _job_decoder.decode(stored)
    except UNDECODABLE:
        return None


def decode_repair_state(stored: bytes | None) -> RepairState | None:
    """As decode_job, of STATE."""
    try:
        return None if stored is None else _state_decoder.decode(stored)
    except UNDECODABLE:
        return None


def encode_asks(asks: Sequence[tuple[int, int, str, str]]) -> bytes:
    """Asks for repairs: metadata id, spare, reason, job."""
    return msgspec.json.encode(asks)


def decode_asks(stored: bytes | None) -> list[tuple[int, int, str, str]]:
    """What `encode_asks` made; none of what makes no sense."""
    try:
        return [] if stored is None else _asks_decoder.decode(stored)
    except UNDECODABLE:
        return []


def now_in_danger(outcome: Outcome) -> bool:
    """Whether one more loss may make it unreadable, after all that could be done."""
    return outcome.good + len(outcome.mended) <= outcome.needed
