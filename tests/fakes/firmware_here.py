"""Modules of the firmware in this very CPython, for tests; they are gone again afterwards."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from unittest import mock

from tests.tidy.source_tree import ROOT


@contextmanager
def imported(*names: str) -> Iterator[tuple[ModuleType, ...]]:
    """Import them as the chip does; MicroPython's clock is there meanwhile."""
    clock = {
        "ticks_ms": lambda: time.monotonic_ns() // 1_000_000,
        "ticks_add": lambda ticks, delta: ticks + delta,
        "ticks_diff": lambda later, earlier: later - earlier,
    }
    with (
        mock.patch.multiple(time, create=True, **clock),
        mock.patch.object(sys, "path", [str(ROOT / "firmware"), *sys.path]),
        mock.patch.dict(sys.modules),
    ):
        yield tuple(importlib.import_module(name) for name in names)
