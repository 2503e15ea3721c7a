"""The seams of what keeps the metadata log in the pool and on slaves, beside those of `ports`.

Adapters: `metadata/replication` (Replication), `metadata/several` (Roles),
`metadata/log` (MetadataLog), `identity` (Signer), `index_file` (IndexPlace),
`zdb/restored_log` (RestoredLog).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from zerostor.core.replication import Comparison, ReplicationState


class LogPart(NamedTuple):
    """A file of the metadata log. size: bytes that are durable; closed: it takes no more."""

    file: int
    size: int
    closed: bool


class LogState(NamedTuple):
    """log_id: 16 bytes that tell the log from every other. leads: its server takes writes.

    term: as of ports.MetadataStore, of the server whose log it is. next_id: which it gives next.
    """

    log_id: bytes
    epoch: int
    leads: bool
    files: tuple[LogPart, ...]
    term: str = ""
    next_id: int = 0


class MetadataLog(Protocol):
    """The bytes of the log that a metadata server keeps its records in."""

    async def state(self) -> LogState:
        """What there is now. Raises MetadataUnavailable; SetupError for a server without a log."""

    async def read(self, file: int, offset: int, size: int) -> bytes:
        """Bytes of a file from `offset`, at most `size`, b"" where there are none."""

    async def close(self) -> None:
        """Close connections."""


class ServedLog(MetadataLog, Protocol):
    """The log of a server that runs, and can be told of others."""

    async def supersede(self, epoch: int) -> None:
        """Tell its server that another one leads since `epoch`: it writes no more, until promoted.
        """


class Signer(Protocol):
    """Who signs for this zerostor."""

    @property
    def public_key(self) -> bytes:
        """32 bytes of Ed25519."""

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""


class IndexPlace(Protocol):
    """Where this host keeps its own copy of the container index."""

    async def read(self) -> bytes:
        """What was written last, b"" if nothing."""

    async def write(self, stored: bytes) -> None:
        """Replace it, durably, whole or not at all."""


class RestoredLog(Protocol):
    """A metadata log that is being made again, aside: it counts only once it was finished."""

    def write(self, file: int, offset: int, chunk: bytes) -> None:
        """Bytes of a log file, as they were. Before `open`; in any thread. Raises BackendError."""

    def cut(self, file: int, size: int) -> None:
        """Let go of what was written of a file beyond `size` bytes, 0 for all of it."""

    async def open(self) -> None:
        """Read what was written; from here on it takes records. Raises SetupError."""

    def records(self) -> Iterator[tuple[int, bytes]]:
        """(id, value) of all that can be read, in order."""

    @property
    def damaged(self) -> int:
        """Ids whose values were lost to damage."""

    @property
    def next_id(self) -> int:
        """The next one that would be given out."""

    @property
    def epoch(self) -> int:
        """Of the last server that wrote."""

    @property
    def last_written(self) -> int:
        """When the last change to an id was made, seconds since 1970; 0 if there was none."""

    def given(self, metadata_id: int) -> int | None:
        """Seconds since 1970 when that id had been given out, at the latest; None if unknown."""

    @property
    def log_id(self) -> bytes:
        """16 bytes that tell this log from every other."""

    def get(self, metadata_id: int) -> bytes | None:
        """The value, None if there is none or it is damaged."""

    def deleted(self, metadata_id: int) -> bool:
        """Whether the id had a value that was deleted on purpose."""

    async def put(self, metadata_id: int, value: bytes) -> None:
        """Set exactly this id; ids go on above it."""

    async def delete(self, metadata_id: int) -> None:
        """Forget what is under it."""

    async def finish(self, epoch: int, text: str) -> None:
        """Begin an epoch, make everything durable, and put the log in its place.

        Raises MetadataUnavailable, SetupError.
        """


class Roles(Protocol):
    """Master or slave, as the metadata server of this gateway tells."""

    async def state(self, gateway: str = "") -> ReplicationState | None:
        """What it tells; None of a server that knows no slaves, which is always a master.

        gateway: URL of the gateway that asks, which slaves then name to those who want to write.
        Raises MetadataUnavailable, SetupError.
        """

    async def close(self) -> None:
        """Close connections."""


class Replication(Roles, Protocol):
    """One metadata server among masters and slaves."""

    async def promote(self) -> ReplicationState:
        """Make a slave the master. Raises SetupError if it is none."""

    async def compare(self) -> Comparison:
        """Hold a slave's log against its master's. Raises SetupError if it is no slave."""

    async def end_file(self) -> None:
        """Close the log's last file and begin the next. Raises MetadataUnavailable."""

    async def reload(self) -> None:
        """Read the log's files again, which somebody has changed. Raises MetadataUnavailable."""
