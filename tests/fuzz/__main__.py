"""`make fuzz`: cases over all modes and all who may ask; prints seeds, counts, and what failed.

A part of it: --modes keys --cases 5000 --seed 7. The same seed makes the same requests up to
tokens and what answers depend on.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.fuzzing import MODES, running

FIRST, MORE = 20, 100
"""Examples of each operation: in the first round of each, and in those that follow."""


def main() -> int:
    """1 if anything failed."""
    asked = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    asked.add_argument("--cases", type=int, default=50_000)
    asked.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    asked.add_argument("--modes", default=",".join(MODES))
    wanted = asked.parse_args()
    modes = wanted.modes.split(",")
    total, failed, seed = 0, 0, wanted.seed
    for mode in modes:
        count = 0
        with tempfile.TemporaryDirectory() as folder, running(Path(folder), mode) as place:
            while count < wanted.cases / len(modes):
                for who in MODES[mode]:
                    examples = FIRST if count == 0 else MORE
                    came = place.fuzz(who, examples, seed)
                    count += came.cases
                    failed += not came.good
                    print(f"{mode} {who} seed {seed}: {came.cases} cases,"
                          f" {'good' if came.good else 'FAILED'}", flush=True)
                    if not came.good or not came.cases:
                        print(came.told, flush=True)
                        failed += not came.cases
                    seed += 1
                if failed:
                    break
        total += count
    print(f"{total} cases from seed {wanted.seed} on, {failed} rounds failed")
    return 1 if failed else 0


sys.exit(main())
