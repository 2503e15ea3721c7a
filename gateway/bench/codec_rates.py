"""Encode and decode rates beside memcpy. Run in a process of its own, see the last lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from gateway.bench.floors import copy_rate, rate
from gateway.bench.works import GB, Row
from zerostor import isal
from zerostor.core.arithmetic import Arithmetic, portable
from zerostor.core.codec import Codec
from zerostor.core.limits import CELL_SIZE
from zerostor.engine.buffers import BufferPool

DATA, PARITY = 16, 4
SPELL = 0.5


def rows() -> list[Row]:
    """Measured in a fresh interpreter each: an old libisal slows zfec in the same process down."""
    found = []
    for name in ("zfec", "isal"):
        command = [sys.executable, "-m", "gateway.bench.codec_rates", name]
        run = subprocess.run(command, capture_output=True, check=True, text=True)  # noqa: S603
        found += [Row(**fields) for fields in json.loads(run.stdout)]
    return found


def measure(name: str) -> list[Row]:
    """Rows of one arithmetic; none where it is not there."""
    arithmetic: Arithmetic | None = isal.load() if name == "isal" else portable()
    if arithmetic is None:
        return []
    codec = Codec(DATA, PARITY, arithmetic)
    both = _buffers((DATA + PARITY) * CELL_SIZE, 1)[0]
    both[:] = os.urandom(len(both))
    stripe, parity = both[: DATA * CELL_SIZE], both[DATA * CELL_SIZE :]
    floor = copy_rate(len(stripe), SPELL)
    encode = rate(len(stripe), SPELL, lambda: codec.encode(stripe, parity, CELL_SIZE))
    cells = dict(enumerate(_buffers(CELL_SIZE, DATA + PARITY)))
    for index, cell in cells.items():
        cell[:] = both[index * CELL_SIZE : (index + 1) * CELL_SIZE]
    lost = {index: cells.pop(index) for index in range(PARITY)}
    decode = rate(len(stripe), SPELL,
                  lambda: codec.rebuild(cells, list(lost), list(lost.values())))
    kind = arithmetic.description.split(" (")[0]
    target = 1.0 if name == "isal" else None
    return [Row(f"{work} 16+4, {kind}", value / GB, "GB/s", floor / GB, "memcpy", target)
            for work, value in (("encode", encode), ("decode, 4 lost", decode))]


def _buffers(size: int, count: int) -> list[memoryview]:
    """As the engine has them."""
    pool = BufferPool(size, count)
    return [buffer for _ in range(count) if (buffer := pool.try_acquire()) is not None]


if __name__ == "__main__":
    print(json.dumps([vars(row) for row in measure(sys.argv[1])]))  # noqa: T201
