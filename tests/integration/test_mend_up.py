"""`zerostor mend` at a running zerostor, from its slave and from its stores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.fakes.running_up import ROOT, Up
from tests.fakes.zdb_server import Client
from zerostor.core.container_index import decode_copy

SETTINGS = '[metadata]\narchive_every = "1s"\n'


def slave_of(master: Up) -> str:
    """Settings of a slave over the stores of `master`."""
    stores = "".join(
        f'[[store]]\nname = "{number:02d}"\nurl = "dir://{master.folder}/stores/{number:02d}"\n'
        for number in range(20))
    url = f"unix://{master.folder / 'run' / 'zdb.sock'}"
    return f'[metadata]\nrole = "slave"\nmaster = "{url}"\n{stores}'


def mend(up: Up, *words: str) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "mend", "--data", str(up.folder), "--config",
         str(up.settings), *words],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)
    return ended.returncode, ended.stdout + ended.stderr


def closed_file(up: Up) -> Path:
    """The first file of its metadata log, which takes no more."""
    client = Client(up.folder / "run" / "zdb.sock")
    client.ask(b"NSJUMP")
    client.socket.close()
    return up.folder / "metadata" / "default" / "d0"


def test_from_the_stores(tmp_path: Path) -> None:
    up = Up(tmp_path / "z", SETTINGS)
    try:
        up.start()
        bodies = {up.store(b"%d" % turn * 5000): b"%d" % turn * 5000 for turn in range(6)}
        path = closed_file(up)
        code, told = mend(up)
        assert (code, "nothing is damaged" in told) == (0, True), told
        good = path.read_bytes()
        index = up.folder / "containers" / "index"

        def in_the_pool() -> bool:
            rows = decode_copy(index.read_bytes()).index.rows if index.exists() else ()
            return any(row.file == 0 and row.closed for row in rows)

        up.until(in_the_pool, "the closed file is in the pool")
        path.write_bytes(good[:2000] + bytes(600) + good[2600:])
        assert json.loads(mend(up, "--dry-run", "--json")[1])["complete"]
        assert path.read_bytes() != good
        code, told = mend(up)
        assert code == 0, told
        assert "are back from the pool" in told
        assert path.read_bytes() == good
        for link, body in bodies.items():
            assert up.get(link).body == body
    finally:
        up.close()


def test_from_a_slave_and_what_nobody_has_is_named(tmp_path: Path) -> None:
    master = Up(tmp_path / "m", '[metadata]\narchive_every = 0\n')
    slave = Up(tmp_path / "s", slave_of(master))
    try:
        master.start()
        links = [master.store(b"%d" % turn * 5000) for turn in range(6)]
        slave.start()
        path = closed_file(master)
        copy = slave.folder / "metadata" / "default" / "d0"
        good = path.read_bytes()
        master.until(lambda: copy.exists() and copy.read_bytes() == good, "the slave is level")
        path.write_bytes(good[:3000] + bytes(900) + good[3900:])
        code, told = mend(master, "--dry-run")
        assert (code, "can be had from unix://" in told, "nothing was changed" in told) == (
            0, True, True), told
        assert path.read_bytes() != good
        assert mend(master)[0] == 0
        assert path.read_bytes() == good
        assert all(master.get(link).status == 200 for link in links)
        code, told = mend(slave)
        assert code == 1 and "mend the master" in told
        slave.stop()
        path.write_bytes(good[:3000] + bytes(900) + good[3900:])
        code, told = mend(master)
        assert code == 1, told
        assert "nobody has that" in told and "new ids after id" in told
    finally:
        slave.close()
        master.close()
