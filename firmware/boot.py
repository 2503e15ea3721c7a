"""First after a reset: which application to start."""

import gc
import sys

# Collected often, what stays lies close together: room for buffers in one piece on a small heap.
gc.threshold(4096)
if "/" not in sys.path:
    sys.path.insert(0, "/")
