"""`make damage`: a million damaged shards, in rounds with a seed each; prints what was done.

A part of it: --count 20000 --seed 7. The same seed does the same damage.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from tests.damage.rounds import damage

LOT = 2000
"""Damaged shards for each seed."""


class _Done(NamedTuple):
    seed: int
    counts: Counter[str]
    reads: int
    failure: str


def main() -> int:
    """1 if anything was not found, was served, or was not mended."""
    asked = argparse.ArgumentParser(prog="tests.damage", description=__doc__)
    asked.add_argument("--count", type=int, default=1_000_000, help="damaged shards")
    asked.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    asked.add_argument("--processes", type=int, default=os.cpu_count())
    wanted = asked.parse_args()
    seeds = range(wanted.seed, wanted.seed + -(-wanted.count // LOT))
    began, counts, reads, failed = time.monotonic(), Counter[str](), 0, 0
    with ProcessPoolExecutor(wanted.processes) as pool:
        lots = [pool.submit(_lot, seed, min(LOT, wanted.count)) for seed in seeds]
        for number, ended in enumerate(as_completed(lots), 1):
            done = ended.result()
            counts += done.counts
            reads += done.reads
            if done.failure:
                failed += 1
                print(f"seed {done.seed} FAILED\n{done.failure}", flush=True)
            if number % 10 == 0 or number == len(lots):
                print(f"{counts.total():,} damaged shards, {reads:,} reads beside them,"
                      f" {failed} of {number} seeds failed, {time.monotonic() - began:.0f} s",
                      flush=True)
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(counts.items()))
    print(f"from seed {wanted.seed} on: {kinds}", flush=True)
    print("FAILED" if failed else "all found, none served, all mended by one scrub", flush=True)
    return int(failed > 0)


def _lot(seed: int, count: int) -> _Done:
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = asyncio.run(damage(Path(folder), seed, count))
        except Exception:  # noqa: BLE001 - whatever it was, its seed is told
            return _Done(seed, Counter(), 0, traceback.format_exc())
    return _Done(seed, made.counts, made.reads, "")


if __name__ == "__main__":
    raise SystemExit(main())
