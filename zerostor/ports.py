"""The seams: what the engine and the processes ask of the world, as small Protocols.

`wiring` alone knows which adapter stands behind which. Every method may raise a BackendError of its
kind; what else it raises is said beside it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from zerostor.core.errors import ZerostorError
from zerostor.core.health import StoreState
from zerostor.core.jobs import Claim, JobUpdate, QueueDepth, SpoolNote, Upload

Buffer: TypeAlias = bytes | bytearray | memoryview
RandomBytes: TypeAlias = Callable[[int], bytes]
"""n -> n random bytes. `os.urandom` in production, a seeded source in simulations."""


class Clock(Protocol):
    """Time."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""


class Capacity(NamedTuple):
    """Room on a store, bytes; None where the store cannot know."""

    total: int | None
    free: int | None


class ShardEnd(NamedTuple):
    """How a shard ends. size: bytes of all of it; tail: the last of them."""

    size: int
    tail: bytes


class ShardWriter(Protocol):
    """A shard being written in order; not visible under its key before `extend` or `commit`."""

    async def write(self, cell: Buffer) -> None:
        """Append; the buffer may be reused once this returns. The disk may start on it early."""

    async def extend(self, parts: Sequence[Buffer]) -> None:
        """Append `parts`, and make all so far durable and visible; more may follow."""

    async def commit(self, parts: Sequence[Buffer] = ()) -> None:
        """Append `parts`, make the shard durable (it survives a power cut) and visible, whole or
        not at all.
        """

    async def abort(self) -> None:
        """Let go, and drop what was not made durable. Never raises; safe after anything failed."""


class ShardStore(Protocol):
    """A place that keeps shards. Keys are 1 to 64 of [0-9a-z-]; values are immutable.

    One contract suite, tests/contract/test_shard_store.py, runs against every adapter.
    """

    @property
    def name(self) -> str:
        """The name records know this store by."""

    async def put(self, key: str, parts: Sequence[Buffer]) -> None:
        """Store the concatenation of `parts` durably, whole or not at all. Raises StoreFull."""

    async def create(self, key: str, size: int | None) -> ShardWriter:
        """Begin a shard that arrives in pieces. size: final bytes if known, to reserve room."""

    async def read(self, key: str, offset: int, into: memoryview) -> None:
        """Fill `into` from byte `offset`. Raises ShardMissing, ShardCorrupt (it ends too early).

        After StoreTimeout, or when cancelled, `into` may still be written to: never use it again.
        """

    async def size(self, key: str) -> int:
        """Bytes stored under `key`. Raises ShardMissing."""

    async def delete(self, key: str) -> None:
        """Forget `key`; one that is not there is fine."""

    def keys(self) -> AsyncIterator[str]:
        """All keys, in no order, without loading them all at once."""

    async def capacity(self) -> Capacity:
        """Room now."""

    async def probe(self) -> None:
        """Return if the store would serve; raise StoreUnavailable with the reason if not."""

    async def close(self) -> None:
        """Let go of descriptors and threads."""


class WatchedStore(ShardStore, Protocol):
    """A store with bounds on every call and a memory of how it did: `stores/guarded` around any."""

    @property
    def read_state(self) -> StoreState:
        """What to expect of the next read."""

    @property
    def write_state(self) -> StoreState:
        """What to expect of the next write; a disk that went read-only is DOWN here alone."""

    @property
    def state(self) -> StoreState:
        """The worse of the two."""

    @property
    def reason(self) -> str:
        """Why it is not UP, for a person."""

    @property
    def labels(self) -> Mapping[str, str]:
        """What the store knows by itself of owner and site."""

    def patience(self, length: int) -> float:
        """Seconds that a write of `length` bytes may take beyond what other stores need."""

    def heard_within(self, seconds: float) -> bool:
        """Whether it answered a read so lately."""

    def read_now(self, key: str, offset: int, into: memoryview) -> bool:
        """Fill `into` if that needs no waiting, else False; never raises a BackendError."""

    async def ends(self, keys: Sequence[str], length: int) -> list[ShardEnd | ZerostorError]:
        """Of each shard its last `length` bytes, or all of a shorter one, in as few calls of the
        store as it can; in place of one that cannot be read, why.
        """

    def hedge_after(self, length: int) -> float:
        """Seconds after which a read of `length` bytes is slow: time to ask another store too."""


class MetadataStore(Protocol):
    """Records by number. Ids come from a sequence, are never reused, and fit 32 bits.

    An id is reserved first and its record committed later, so that shards can carry the id in their
    trailers and a job that runs twice commits under one id.
    """

    async def reserve(self, notes: Sequence[bytes]) -> list[int]:
        """One new id per note, durable; `get` of it gives the note until `commit`.

        A note should be the only one of its kind: an adapter that lost the answer finds it by that.
        """

    async def term(self) -> str:
        """Whose succession of ids this is: it changes when another server becomes the master.

        What was reserved in one term may be given to others in the next.
        """

    async def commit(self, records: Sequence[tuple[int, bytes]], term: str | None = None) -> None:
        """Store each record under its reserved id, durable on return. Idempotent.

        term: in which the ids were reserved or seen. Raises MetadataUnavailable in another.
        """

    async def replace(self, changes: Sequence[tuple[int, bytes, bytes]], term: str | None = None
                      ) -> list[bool]:
        """(id, old, new): store `new`, durable on return, where `old` is under the id; False where
        something else is. True also where `new` is there already, so it may be asked again.

        term: as of `commit`. The only way to change a record: nobody undoes what another did.
        """

    async def get(self, metadata_id: int) -> bytes | None:
        """The note or record, or None."""

    async def changes(self, since: bytes) -> tuple[bytes, Collection[int] | None]:
        """(a mark of now, ids that changed since that mark); None for all, where it cannot tell.

        A first mark is b"". What was reserved since counts as no change.
        """

    async def delete(self, ids: Sequence[int], term: str | None = None) -> None:
        """Forget what is under `ids`, durably; what is not there is fine. None is given again.

        term: as of `commit`.
        """

    def scan(self, start: int = 0) -> AsyncIterator[tuple[int, bytes]]:
        """(id, record) from `start` on, in id order."""

    async def ping(self) -> None:
        """Return if it would serve."""

    async def close(self) -> None:
        """Close connections."""


class SpoolWriter(Protocol):
    """An upload on its way in."""

    @property
    def size(self) -> int:
        """Bytes so far."""

    async def write(self, chunks: Sequence[Buffer]) -> None:
        """Append and hash, off the event loop. Raises SpoolFull, BackendError, as all do here."""

    async def seal(self, chunks: Sequence[Buffer], upload: Upload) -> Upload:
        """Append the last chunks and end the body; returns `upload` with size and hash filled in.

        Of a durable upload file and folder are on disk then; of another by `sync`, or never.
        """

    async def sync(self) -> None:
        """Make a sealed entry durable; one that was stored and removed meanwhile is fine."""

    async def close(self) -> None:
        """Let go; an entry that was not sealed is dropped and leaves nothing. Never raises."""


class Body(Protocol):
    """Bytes on their way into an object."""

    job: str
    upload: Upload | None
    """The description, None while the body is still arriving."""
    expected: int | None
    """Size that was announced, if it was."""

    def read(self, into: memoryview, offset: int) -> int:
        """Bytes of the body from `offset`, as many as are there; blocking, for a worker thread."""

    async def arrival(self, beyond: int) -> None:
        """Wait until more than `beyond` bytes are there, or it is sealed.

        Raises UnknownJob when the upload was abandoned, Busy when another worker took it.
        """


class SpoolEntry(Body, Protocol):
    """An upload as a worker sees it; once sealed, one worker of this host at a time holds it."""

    spool: WorkSpool
    """Where it was taken from, and is to be finished."""
    note: SpoolNote


class WorkSpool(Protocol):
    """What a worker asks of a spool: that of its host, or of another gateway.

    Calls on another gateway's raise SpoolAway while it cannot be reached.
    """

    @property
    def id(self) -> str:
        """32 hex digits that no other spool has; jobs in the queue name their spool by it."""

    async def open(self, jobs: Sequence[str]) -> list[SpoolEntry | ZerostorError]:
        """Take entries; in place of one: UnknownJob, Busy (another worker has it), SpoolCorrupt,
        BackendError (the disk cannot say).
        """

    async def write_notes(self, entries: Sequence[SpoolEntry]) -> None:
        """Keep each entry's `note` where a restarted worker finds it."""

    async def finish(self, stored: Sequence[tuple[SpoolEntry, str]]) -> None:
        """Keep the receipts (job, link) durably, then remove the entries."""

    async def fail(self, job: str, reason: str) -> None:
        """Move a released entry to the dead-letter list; the bytes are kept."""

    async def release(self, entries: Sequence[SpoolEntry]) -> None:
        """Let go of entries without finishing them."""

    async def status(self, job: str) -> JobUpdate | None:
        """What the spool alone knows of a job: waiting, failed, or done within RESULT_KEEP."""


class Spools(Protocol):
    """The spools of all gateways."""

    def at(self, spool: str) -> WorkSpool:
        """The one with that id; an empty id means the one of this host.

        Raises SpoolAway for that of another host where this process has no way to ask it.
        """

    async def others(self) -> list[WorkSpool]:
        """Those of other gateways that were announced, as far as they can be asked."""


class Spool(WorkSpool, Protocol):
    """Where accepted uploads wait. It is the truth; the queue is only its index."""

    async def create(self, job: str, expected: int | None, *, durable: bool) -> SpoolWriter:
        """Begin an upload, of `expected` bytes if known. Raises SpoolFull."""

    async def discard(self, job: str) -> None:
        """Drop what a process that died left of an upload half-way, whose id is used again."""

    async def waiting(self) -> list[tuple[str, float]]:
        """Sealed entries that are not stored yet: (job, seconds since it was sealed)."""

    async def failed(self) -> list[JobUpdate]:
        """The dead-letter list."""

    async def requeue(self, job: str) -> None:
        """Give a failed entry a fresh start. Raises UnknownJob."""

    async def probe(self) -> None:
        """Return if an upload could be taken now; raise SpoolFull or SetupError with the reason."""

    async def sweep(self) -> int:
        """Drop uploads that were abandoned half-way, and count them; nothing was promised."""

    async def close(self) -> None:
        """Let go of threads."""


class JobQueue(Protocol):
    """Hints about which spool entries to work on, with leases, results and wake-ups.

    At-least-once: a job may be claimed twice, and duplicates are harmless because the worker checks
    the spool. It may lose everything at any time; the reconciler adds what the spool still holds.
    When the queue cannot be reached each call raises QueueUnavailable within seconds, apart from
    `note` and `watch`, and works again by itself. One suite: tests/contract/test_job_queue.py.
    """

    async def add(self, jobs: Sequence[str], *, spool: str = "", force: bool = False) -> None:
        """Queue jobs that are in `spool`; without force, one queued, delayed, running or final is
        left alone.
        """

    async def claim(self, limit: int, wait: float) -> list[Claim]:
        """Up to `limit` jobs, waiting up to `wait` seconds for the first; leases are kept alive.

        Jobs of workers that died come back here, with `deliveries` counted. One call at a time.
        """

    async def finish(self, results: Sequence[tuple[Claim, JobUpdate]]) -> None:
        """Publish final updates and drop the claims, which also go when this raises."""

    async def retry(self, claim: Claim, delay: float, update: JobUpdate) -> None:
        """Give the job back, to be claimed again after `delay` seconds; publish `update`."""

    async def note(self, update: JobUpdate) -> None:
        """Publish progress of a running job, soon; may be lost, never waits, the last one wins."""

    async def forget(self, jobs: Sequence[str]) -> None:
        """Drop jobs that no longer exist, and what is known of them."""

    async def status(self, job: str) -> JobUpdate | None:
        """The last update, None if unknown."""

    def watch(self) -> AsyncIterator[JobUpdate]:
        """Every update given to note, retry and finish from now on, in order, for good.

        Yields jobs.GAP once it listens, and after a lost connection or lost events: whoever waits
        for a job asks for its status again then. Register a waiter first, then ask its status.
        """

    async def depth(self) -> QueueDepth:
        """How much waits and runs."""

    async def heartbeat(self, worker: str, seconds: float) -> None:
        """Say that `worker` is alive for the next `seconds`."""

    async def announce(self, spool: str, place: str) -> None:
        """Say where the gateway with `spool` answers, as cluster_token has it; known for a day."""

    async def spools(self) -> list[tuple[str, str]]:
        """(spool, place) of what was announced, by whoever said it, the latest last."""

    async def hold(self, role: str, seconds: float) -> bool:
        """Take or keep a role that one process at a time has; True: it is ours for `seconds`."""

    async def workers(self) -> list[str]:
        """Workers alive now."""

    async def ping(self) -> None:
        """Return if it would serve."""

    async def close(self) -> None:
        """Give unfinished claims back and close; end every `watch`."""
