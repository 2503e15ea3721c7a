"""Power cuts in the middle of flash operations: no chunk that was acknowledged is lost.

A seeded sample of them; NODE_CUTS=all takes every operation, torn at 0, 13, 50 and 100 % and noisy.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.node_hub import NodeHub
from tests.fakes.nodes import KEY, firmware, make_node
from tests.tidy.source_tree import ROOT
from zerostor.nodes.emulator import blank, micropython
from zerostor.nodes.firmware import firmware_folder

pytestmark = pytest.mark.skipif(not firmware().real, reason="no MicroPython here")

KB = 256
TORN = (0, 13, 50, 100, 101)
SAMPLE = 150
SEED = 5


def run(mode: str, folder: Path, **chip: int) -> list[str]:
    """What the workload says, until its end or its power's."""
    script = str(ROOT / "tests/fakes/power_workload.py")
    settings = [f"{name}={value}" for name, value in {"chunks_kb": KB, **chip}.items()]
    command = micropython("256wK", script, str(firmware_folder()), mode, str(folder), *settings)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == (-9 if "cut_at" in chip else 0), done.stdout + done.stderr
    return done.stdout.splitlines()


def names(lines: list[str], word: str) -> list[str]:
    return [line.removeprefix(word + " ") for line in lines if line.startswith(word + " ")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str], int]:
    """A flash with chunks, their names, and how many operations the workload has."""
    folder = tmp_path_factory.mktemp("base")
    blank(folder, "chunks", KB)
    kept = set(names(run("make", folder), "P"))
    trial = folder / "trial"
    trial.mkdir()
    for name in ("chunks.img", "chunks.wear"):
        shutil.copyfile(folder / name, trial / name)
    return folder, kept, int(names(run("work", trial), "operations")[0])


def cut(base: tuple[Path, set[str], int], folder: Path, operation: int, torn: int) -> None:
    """One cut, and what is there afterwards."""
    source, kept, _ = base
    folder.mkdir()
    for name in ("chunks.img", "chunks.wear"):
        shutil.copyfile(source / name, folder / name)
    said = run("work", folder, cut_at=operation, torn=torn)
    begun = [line.removeprefix("begin ") for line in said if line.startswith("begin ")]
    unsure = {begun[-1][2:]} if begun and said[-2].startswith("begin") else set()
    expected = (kept | set(names(said, "P"))) - set(names(said, "D"))
    after = run("check", folder)
    there = {line.split()[0]: line.split()[1] for line in names(after, "chunk")}
    case = f"operation {operation}, torn {torn}"
    assert set(there.values()) <= {"good"}, case
    assert set(there) - unsure == expected - unsure, case
    assert names(after, "counted") == [str(len(there))], case
    assert names(after, "junk") == ["0"], case
    assert "writable" in after, case
    shutil.rmtree(folder)


def test_no_chunk_is_lost(base: tuple[Path, set[str], int], tmp_path: Path) -> None:
    total = base[2]
    cases = [(operation, torn) for operation in range(1, total + 1) for torn in TORN]
    assert len(cases) > 500
    if os.environ.get("NODE_CUTS") != "all":
        cases = random.Random(SEED).sample(cases, SAMPLE)
    with ThreadPoolExecutor(2) as pool:
        made = [
            pool.submit(cut, base, tmp_path / f"{operation}-{torn}", operation, torn)
            for operation, torn in cases
        ]
        for future in made:
            future.result()


@pytest.mark.parametrize("torn", TORN)
def test_the_first_start_may_be_cut_anywhere(tmp_path: Path, torn: int) -> None:
    """A flash that was being formatted is ours, though it is neither blank nor whole."""
    hub = NodeHub({"n1": KEY})
    node = make_node(tmp_path, hub.port, chunks_kb=256)
    try:
        cuts = 0
        for operation in range(1, 40, 3):
            shutil.rmtree(node.folder)
            node = make_node(tmp_path, hub.port, chunks_kb=256)
            node.start(cut_at=operation, torn=torn)
            assert node.process
            try:
                node.process.wait(3 if operation < 20 else 0.5)
                cuts += 1
            except subprocess.TimeoutExpired:
                node.kill()
            node.start()
            peer = hub.accept()
            assert peer.stat["flags"] & 2 == 0, operation
            assert peer.put(bytes(16), b"content") == 0
            node.kill()
        assert cuts > 5
    finally:
        node.kill()
        hub.close()
