"""What is asked of stores beyond their bytes: how they are, and what was said of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from zerostor.core.health import Condition, StoreFigures
from zerostor.core.roll import Roll, RollEntry
from zerostor.core.settings import StoreSettings
from zerostor.ports import WatchedStore


class JudgedStore(WatchedStore, Protocol):
    """A store that is looked at again and again, and compared with the others."""

    @property
    def condition(self) -> Condition:
        """What it is to a person; it changes only after several looks agree."""

    @property
    def since(self) -> float:
        """Since when it is that, in seconds since the epoch."""

    @property
    def identity(self) -> str:
        """Another one once the store was begun anew in its place; empty where it has none."""

    @property
    def figures(self) -> StoreFigures:
        """How its calls went of late, and its room as it was some seconds ago."""


class StoreRoll(Protocol):
    """What was said of stores while zerostor runs; every process of every host follows it."""

    @property
    def settings(self) -> Sequence[StoreSettings]:
        """Of the stores that there are now, draining ones among them."""

    @property
    def roll(self) -> Roll:
        """All that was said."""

    async def say(self, entry: RollEntry) -> Roll:
        """Have the last word on a store: durable, and true in this process, on return; elsewhere
        within seconds. Raises SetupError.
        """

    async def change(self, edit: Callable[[Roll], Roll]) -> Roll:
        """As `say`, of anything; `edit` is called with all that was said until now."""

    async def start(self, settings: StoreSettings) -> str:
        """Make a place the store, on purpose; what the operator should know of it, or nothing.

        Raises SetupError when it is that of another or not empty, StoreUnavailable.
        """
