"""First after a reset: which application to start, and what ends it if it hangs."""

import gc
import sys

# Collected often, what stays lies close together: room for buffers in one piece on a small heap.
gc.threshold(4096)

import esp32  # noqa: E402
from slots import Slots  # noqa: E402

slots = Slots(esp32.NVS("edn"))
folder = slots.choose()
if folder:
    sys.path.insert(0, folder)
slots.guard()
