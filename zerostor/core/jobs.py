"""Jobs as plain values: what an upload is, the states of its job, and their text and byte forms."""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from zerostor.core.checksum import Salted


class JobState(enum.StrEnum):
    """ACTIVE until it ends as DONE or ERROR; WAITING is ACTIVE with a reason why not yet."""

    ACTIVE = "ACTIVE"
    WAITING = "WAITING"
    DONE = "DONE"
    ERROR = "ERROR"

    @property
    def final(self) -> bool:
        """True when nothing more will happen."""
        return self in (JobState.DONE, JobState.ERROR)


class JobUpdate(msgspec.Struct, frozen=True):
    """What is known of a job at one moment.

    detail: the link when DONE, the reason when ERROR or WAITING, else empty.
    progress: 0.0 to 1.0.
    """

    job: str
    state: JobState
    detail: str = ""
    progress: float = 0.0


GAP = JobUpdate(job="", state=JobState.ACTIVE)
"""What `JobQueue.watch` yields where updates may have been missed: ask for the status again."""


class Claim(NamedTuple):
    """A job this worker holds. token: the queue's own name for the delivery; deliveries: from 1.

    spool: id of the spool that has the entry; empty where nobody said, which means this host's.
    """

    job: str
    token: str
    deliveries: int
    spool: str = ""


class SpoolNote(msgspec.Struct):
    """What a worker writes beside a spool entry, so that a later attempt goes on and not anew.

    metadata_id: reserved for this job, None before. tries: attempts that failed. error: the last.
    """

    metadata_id: int | None = None
    tries: int = 0
    error: str = ""


class QueueDepth(NamedTuple):
    """Jobs waiting, claimed and delayed; seconds since the oldest of the first two was queued."""

    waiting: int
    running: int
    delayed: int
    oldest: float


class Upload(Salted, frozen=True):
    """The description that seals a spool entry.

    job: 32 hex digits. ext: without the dot, may be empty. policy: a name from the config.
    accepted_ms: epoch milliseconds. size, content: filled in by the spool. salt: what the content
    hash is keyed with, empty for a public object. owner: hex of the key that signed in to upload
    it, empty where nobody did.
    """

    job: str
    ext: str
    policy: str
    accepted_ms: int
    size: int = 0
    content: bytes = b""
    salt: bytes = b""
    owner: str = ""
