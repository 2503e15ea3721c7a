"""Where events go, and where they are read: the log of them that a host keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from zerostor.core.events import ALL, Event, Wanted
from zerostor.core.forecast import Sample


class EventLog(Protocol):
    """The events of this host, told by all its processes, kept durably and not for ever.

    Failures and warnings are there at once, normal ones once a period; equal ones are counted
    together. What reads raises BackendError. One suite: tests/contract/test_event_log.py.
    """

    def append(self, event: Event) -> None:
        """Keep `event`, soon. From any thread; never raises, never waits for a disk."""

    def change(self, topic: str, state: str, event: Event | None) -> None:
        """Of something that lasts: append `event` if `state` is not what was said of `topic` last,
        by whichever process of this host. Empty is the state of a topic nobody spoke of yet.
        """

    async def settle(self) -> bool:
        """Whether all that was appended before is durable now."""

    async def since(self, after: int, limit: int, wanted: Wanted = ALL) -> list[Event]:
        """Those with a higher id than `after`, the eldest first."""

    async def last(self, limit: int, wanted: Wanted = ALL) -> list[Event]:
        """The newest, the eldest of them first."""

    async def newest(self) -> int:
        """The highest id, 0 of none. Ids are about epoch milliseconds of when they came here, so
        that one of another host, or of a log that was begun anew, leads to about the same place.
        """

    async def changed(self, after: int, wait: float) -> bool:
        """Whether there is an id higher than `after`, as soon as there is or after `wait` seconds.
        """


class EventBook(EventLog, Protocol):
    """What those who look after events keep beside them, for all processes of the host."""

    async def origin(self) -> str:
        """What other hosts know this one by."""

    async def hold(self, role: str, who: str, seconds: float, rank: int = 0) -> bool:
        """Take or keep a role that one process of the host has; a higher rank takes it away."""

    async def mark(self, name: str) -> int:
        """What `set_mark` kept under `name`, 0 if nothing."""

    async def set_mark(self, name: str, value: int) -> None:
        """Keep a number, durably."""

    async def adopt(self, events: Sequence[Event]) -> None:
        """Keep events of other hosts (`origin`, with their ids there), each once; what this host,
        or another, told in the same minute is not told again.
        """

    async def add_samples(self, samples: Sequence[tuple[str, Sample]], keep: float) -> None:
        """Keep samples by topic, and forget those older than `keep` seconds."""

    async def samples(self) -> dict[str, list[Sample]]:
        """By topic, the eldest first."""

    async def close(self) -> None:
        """Write down what is left, and close the file."""


class EventRelay(Protocol):
    """How the keepers of all hosts tell each other of events. It may forget all of it at any time.

    Calls raise QueueUnavailable.
    """

    async def tell(self, told: Sequence[bytes]) -> None:
        """Have all others hear of these, in order."""

    async def heard(self, after: str, limit: int) -> tuple[list[bytes], str]:
        """What was told after a place, and the place to go on from; empty is the beginning."""

    async def count(self) -> int:
        """How many are kept; 0 where everything was forgotten."""

    async def close(self) -> None:
        """Close connections."""
