"""What is asked of stores beyond their bytes: how they are, and what was said of them."""

from __future__ import annotations

from typing import Protocol

from zerostor.core.health import Condition, StoreFigures
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
    def figures(self) -> StoreFigures:
        """How its calls went of late, and its room as it was some seconds ago."""
