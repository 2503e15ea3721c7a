"""The states of a store as its guard sees it."""

from __future__ import annotations

import enum


class StoreState(enum.StrEnum):
    """UP: serves. SUSPECT: failed lately, still tried. DOWN: not asked until a probe succeeds."""

    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"
