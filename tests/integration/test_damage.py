"""A share of `make damage`: whatever happens to shards is found, not served, and mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.damage.kinds import KINDS
from tests.damage.rounds import damage

COUNT = 1000


@pytest.mark.parametrize("seed", range(2))
async def test_all_damage_is_found_none_is_served_and_one_scrub_mends_it(
        tmp_path: Path, seed: int) -> None:
    made = await damage(tmp_path, seed, COUNT)
    assert set(made.counts) == {kind.__name__ for kind in KINDS}
    print(f"seed {seed}: {made.counts.total()} damaged shards, {made.reads} reads")
