"""Links that come and go while something else walks past."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_SWAP = """
import os, sys
place, aside, target = sys.argv[1:]
print(flush=True)
while True:
    os.rename(place, aside)
    os.symlink(target, place)
    os.unlink(place)
    os.rename(aside, place)
"""


@contextlib.contextmanager
def swapping(place: Path, aside: Path, target: Path) -> Iterator[None]:
    """A process that puts a link to `target` in the place of something and takes it away again."""
    command = [sys.executable, "-c", _SWAP, str(place), str(aside), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()
