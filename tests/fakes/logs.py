"""Logs in tests: opened small, driven by random steps, compared column by column."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

from zerostor.core.errors import LogCorrupt
from zerostor.core.log_format import Mode
from zerostor.zdb.segments import SEGMENT_SIZE_MIN, Batch, LogSettings, LogStore

SMALL = LogSettings(segment_size=SEGMENT_SIZE_MIN, sync=False)
SERVER = b"server of a test"

Operation = tuple[str, int, bytes]

PAYLOADS = st.one_of(
    st.binary(max_size=60), st.sampled_from([b"", b"x" * 20_000, bytes(range(256)) * 120])
)
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["new", "new", "new", "change", "change", "delete", "rotate", "given",
                         "epoch", "control", "clear"]),
        st.integers(0, 40), PAYLOADS,
    ),
    min_size=1, max_size=30,
)


def opened(folder: Path, settings: LogSettings = SMALL) -> LogStore:
    return LogStore(folder, settings, lambda: 1_700_000_000.0)


async def durable(store: LogStore) -> Batch | None:
    """Wait for all that was written; the batch, to look at its error."""
    batch = store.newest
    if batch is not None:
        await batch.ended()
    return batch


def step(store: LogStore, operation: Operation) -> None:
    """One change, of whatever kind the log's mode has."""
    kind, choice, payload = operation
    alive = store.walk(None, 1, 1000).slots
    slot = alive[choice % len(alive)] if alive else None
    user = store.mode is Mode.USER
    if kind == "delete" and slot is not None:
        store.delete(slot, choice)
    elif kind == "rotate":
        store.rotate()
    elif kind == "clear" and choice < 5:
        store.clear()
    elif kind == "epoch":
        store.begin_epoch(store.epoch + 1 + choice, SERVER, "because")
    elif kind == "control":
        store.append_control(payload)
    elif user:
        store.put(b"key %d" % (choice % 12 if kind == "new" else choice), payload, choice)
    elif kind == "given":
        store.put_given(max(0, store.next_id + choice - 20), payload, choice)
    elif kind == "change" and slot is not None:
        store.update(slot, payload, choice)
    else:
        store.insert(payload, choice)


def contents(store: LogStore) -> dict[bytes, tuple[bytes | None, int]]:
    """Key to value and time; value None: refused."""
    found: dict[bytes, tuple[bytes | None, int]] = {}
    for slot in range(store.next_id):
        if store.exists(slot):
            try:
                value = store.get(slot)
            except LogCorrupt:
                value = None
            found[store.key_at(slot)] = value, store.stamp(slot)
    return found


def columns(store: LogStore) -> tuple[object, ...]:
    """Everything the index says."""
    index = store.index
    return (
        [column.tolist() for column in index.columns], index.live, index.live_bytes,
        list(store.epochs), store.tip,
    )


def keys_are_found(store: LogStore) -> None:
    """Each key leads to its own slot, and no other does."""
    for slot in range(store.next_id):
        if store.exists(slot):
            assert store.find(store.key_at(slot)) == slot


def forget_index_files(folder: Path) -> None:
    for path in folder.glob("i*"):
        path.unlink()


def files(folder: Path, store: LogStore) -> dict[int, bytes]:
    """The log itself, byte by byte, as it lies on disk."""
    numbers = [file.number for file in store.log_files()]
    return {number: (folder / f"d{number}").read_bytes() for number in numbers}


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """A disk that is full beyond `size` bytes of a file: real writes that really fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
