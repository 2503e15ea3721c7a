"""A process that writes users' keys, clears and rotates, killed at any moment, again and again."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.fakes.logs import SMALL, contents, keys_are_found, opened
from zerostor.core.log_format import Mode

SCRIPT = """
import asyncio, os, sys
from pathlib import Path
from zerostor.core.log_format import Mode
from zerostor.zdb.segments import LogSettings, LogStore

async def main():
    settings = LogSettings(segment_size=64 * 1024, mode=Mode.USER)
    store = LogStore(Path(sys.argv[1]), settings, lambda: 1.0)
    turn = int(sys.argv[2])
    while True:
        done, said = asyncio.Event(), []
        if turn % 700 == 693:
            store.clear()
            said.append("clear")
        for _ in range(7):
            key = b"key %d" % (turn % 50)
            slot = store.find(key)
            if slot is not None and turn % 11 == 0:
                store.delete(slot, turn)
                said.append(f"del {turn % 50}")
            else:
                store.put(key, b"%d " % turn * 400, turn)
                said.append(f"set {turn % 50} {turn}")
            turn += 1
        if turn % 90 == 0:
            store.rotate()
        store.newest.waiters.append(done.set)
        # In one piece: a blow between two would leave half a line.
        os.write(1, (";".join(["try", *said]) + "\\n").encode())
        await done.wait()
        os.write(1, b"done\\n")

asyncio.run(main())
"""


def apply(model: dict[bytes, bytes], line: str) -> dict[bytes, bytes]:
    """The model after one batch."""
    model = dict(model)
    for said in line.split(";")[1:]:
        kind, *words = said.split()
        if kind == "clear":
            model.clear()
        elif kind == "del":
            model.pop(b"key " + words[0].encode(), None)
        else:
            model[b"key " + words[0].encode()] = f"{words[1]} ".encode() * 400
    return model


async def test_what_was_acknowledged_is_there_and_batches_are_told_in_order(
    tmp_path: Path,
) -> None:
    model: dict[bytes, bytes] = {}
    turn, cleared = 0, False
    for round_ in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path), str(turn)],
            stdout=subprocess.PIPE, text=True,
        )
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        time.sleep(0.05 + round_ * 0.06)
        child.kill()
        lines += child.stdout.read().splitlines()
        child.wait()
        maybe = None
        for line in lines:
            if line.startswith("try"):
                cleared |= "clear" in line
                maybe, turn = line.strip(), turn + 7
            elif line.startswith("done") and maybe is not None:
                model, maybe = apply(model, maybe), None
        store = opened(tmp_path, SMALL._replace(mode=Mode.USER))
        assert store.first_damage is None
        keys_are_found(store)
        found = {key: value for key, (value, _) in contents(store).items()}
        await store.close()
        # Of the batch that was on its way, any first part may be there.
        parts = maybe.split(";") if maybe else ["try"]
        possible = [apply(model, ";".join(parts[:count])) for count in range(1, len(parts) + 1)]
        assert found in possible
        model = {key: value for key, value in found.items() if value is not None}
    assert turn > 700
    assert cleared
