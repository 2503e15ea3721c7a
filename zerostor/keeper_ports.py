"""The seams of keeping: how others talk to the keeper that leads, and what it writes down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from zerostor.core.scrub import Orphan

KEEPER = "keeper"
"""The role of the one that leads, and what its state is published as."""


class RepairAsk(NamedTuple):
    """A stripe set that somebody found wrong.

    metadata_id: of the record that has it, an object's or a pack's. spare: good shards beyond those
    that bring it back, as far as known; the smaller the more urgent, below 0 of what is lost.
    reason: for people. job: 32 hex digits where somebody polls how it ends.
    """

    metadata_id: int
    spare: int
    reason: str
    job: str = ""


class Board(Protocol):
    """Hints and states that may be forgotten at any time, as Redis may forget them.

    What waits here is found again by the next pass over all records. Calls raise QueueUnavailable,
    and work again by themselves. One suite, tests/contract/test_board.py, runs for every adapter.
    """

    async def ask(self, asks: Sequence[RepairAsk]) -> None:
        """Have stripe sets repaired. Of several asks for one the smallest spare stays; those with
        a job stay each. Of very many the least urgent are forgotten.
        """

    async def take(self, limit: int, wait: float) -> list[RepairAsk]:
        """The most endangered, off the board; waits up to `wait` seconds for the first."""

    async def waiting(self) -> int:
        """Asks on the board."""

    async def publish(self, name: str, state: bytes, seconds: float) -> None:
        """Say how it goes with `name`; known for so long, or until it is said anew."""

    async def published(self, name: str) -> bytes | None:
        """What was said last, or None."""

    async def command(self, name: str, body: bytes) -> None:
        """Tell the keeper to do something; forgotten if none hears it for an hour."""

    async def commands(self, wait: float) -> list[tuple[str, bytes]]:
        """What it was told, in order, off the board; waits up to `wait` seconds for the first."""

    async def close(self) -> None:
        """Close connections."""


class Named(NamedTuple):
    """Shards that a record names. key: of the stripe set; places: store by index of the shard."""

    key: bytes
    places: tuple[str, ...]


class ScrubBook(Protocol):
    """What a keeper writes down of its scrubs, durably. Calls raise BackendError."""

    async def state(self) -> bytes:
        """What `keep_state` kept, b"" if nothing."""

    async def keep_state(self, state: bytes) -> None:
        """Keep this."""

    async def begin_names(self) -> None:
        """Forget what is named: a pass begins."""

    async def add_names(self, named: Sequence[Named]) -> None:
        """These are named by records of this pass."""

    async def see(self, store: str, keys: Sequence[str], now: float, sweep: float) -> int:
        """A store has these shards. How many of them nobody named; they are written down, with
        when that was seen first. sweep: tells this sweep over the stores from all others.
        """

    async def end_sweep(self, store: str, sweep: float) -> None:
        """All of a store was seen: what is not there any more, or named now, is no orphan."""

    async def orphans(self, before: float, limit: int) -> tuple[list[Orphan], int, int]:
        """(the first `limit` of those first seen before a time, all of them, how many are younger).
        """

    async def forget(self, orphans: Sequence[Orphan]) -> None:
        """They are gone, or were none."""

    async def close(self) -> None:
        """Close the file."""
