"""What workers and gateways of different hosts say to each other about spool entries.

One shape for all: POST /api/spool/VERB with an Ask about up to JOBS_MAX jobs, answered by a Row for
each, in order, both as msgpack; and GET /api/spool/body/JOB with a Range. Both carry a token
(cluster_token). A worker holds an entry by a lease that it renews; the gateway holds the lock.
"""

from __future__ import annotations

import re

import msgspec

from zerostor.core.checksum import is_salt
from zerostor.core.errors import (
    BackendError,
    BadRequest,
    Busy,
    SpoolCorrupt,
    UnknownJob,
    ZerostorError,
)
from zerostor.core.jobs import JobUpdate, SpoolNote, Upload
from zerostor.core.limits import KIB, MIB
from zerostor.core.msgpack import UNDECODABLE

LEASE_SECONDS = 12.0
"""After this long without a word from its worker an entry is let go."""
RENEW_SECONDS = 3.0
ARRIVAL_SECONDS = 5.0
"""How long a gateway waits for more of an upload before it says that there is none yet."""
JOBS_MAX = 256
INLINE_MAX, INLINE_TOTAL = 64 * KIB, 4 * MIB
"""Largest body that comes with its description, and all of these in one reply, bytes."""
REASON_MAX = 1000
REPLY_MAX = 8 * MIB
TOKEN_HEADER, SEAL_HEADER, LEASE_HEADER = "Authorization", "Zerostor-Seal", "Zerostor-Lease"
SCHEME = "Zerostor "
_JOB = re.compile(r"[0-9a-f]{32}")
_ERRORS = {kind.code: kind for kind in (UnknownJob, Busy, SpoolCorrupt)}


class Ask(msgspec.Struct, frozen=True, omit_defaults=True):
    """jobs, and for each where the verb needs it: its lease, note, link or reason (`texts`).

    beyond: for `arrival`, how many bytes are there already. spool: the one that is meant; a gateway
    whose disk was not mounted has another, and must not say that it does not know the jobs.
    """

    jobs: list[str]
    leases: list[str] = []
    notes: list[SpoolNote] = []
    texts: list[str] = []
    beyond: int = 0
    spool: str = ""


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer for one job. code, detail: of an error; empty code: it went well.

    lease, upload, expected, note: of an entry. body: of a small one. update: for `status`.
    """

    code: str = ""
    detail: str = ""
    lease: str = ""
    upload: Upload | None = None
    expected: int | None = None
    note: SpoolNote | None = None
    body: bytes | None = None
    update: JobUpdate | None = None

    def error(self) -> ZerostorError | None:
        """The error it tells of, as the spool of this host would have raised it."""
        return _ERRORS.get(self.code, BackendError)(self.detail) if self.code else None


_ask = msgspec.msgpack.Decoder(Ask)
_rows = msgspec.msgpack.Decoder(list[Row])


def verb_path(verb: str) -> str:
    """Where `verb` is asked; what a token is bound to."""
    return f"/api/spool/{verb}"


def body_path(job: str) -> str:
    """Where the body of an entry is read."""
    return f"/api/spool/body/{job}"


def refusal(error: Exception) -> Row:
    """The row of a job that failed with `error`."""
    code = error.code if isinstance(error, ZerostorError) else BackendError.code
    reason = getattr(error, "strerror", None) or str(error)
    return Row(code, reason[:REASON_MAX])


def decode_ask(body: bytes) -> Ask:
    """What a worker asks. Raises BadRequest."""
    try:
        ask = _ask.decode(body)
    except UNDECODABLE as error:
        raise BadRequest(f"this is no question about spool entries: {error}") from None
    if not 1 <= len(ask.jobs) <= JOBS_MAX or not all(map(_JOB.fullmatch, ask.jobs)):
        raise BadRequest(f"1 to {JOBS_MAX} jobs of 32 hex digits can be asked about at a time")
    if len(set(ask.jobs)) < len(ask.jobs):
        raise BadRequest("each job can be asked about once at a time")
    if any(beside and len(beside) != len(ask.jobs)
           for beside in (ask.leases, ask.notes, ask.texts)):
        raise BadRequest("leases, notes and texts are one for each job, or none")
    if any(len(text) > REASON_MAX for text in ask.texts):
        raise BadRequest(f"a text is at most {REASON_MAX} characters")
    return ask


def decode_rows(body: bytes, count: int) -> list[Row]:
    """What a gateway answered about `count` jobs. Raises BackendError."""
    try:
        rows = _rows.decode(body)
    except UNDECODABLE as error:
        raise BackendError(f"the gateway's answer does not decode: {error}") from None
    if len(rows) != count:
        raise BackendError(f"the gateway answered about {len(rows)} jobs of {count}")
    if not all(is_salt(row.upload.salt) for row in rows if row.upload is not None):
        raise BackendError("the gateway describes an upload with a salt that is none")
    return rows
