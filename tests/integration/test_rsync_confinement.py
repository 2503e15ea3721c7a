"""What the kernel refuses to a confined process, with this Landlock and with older ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sshgw import confinement, landlock
from sshgw.confinement import find_confinement

ROOT = Path(__file__).parents[2]
TRY = """
import ctypes, json, os, socket, sys
sys.path.insert(0, sys.argv[1])
from sshgw import landlock, system_calls
home, outside, version = sys.argv[2], sys.argv[3], int(sys.argv[4])
landlock.abi = lambda: version
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
tries = {
    "read outside": lambda: os.listdir(outside),
    "write outside": lambda: open(outside + "/f", "a"),
    "make outside": lambda: open(outside + "/g", "w"),
    "remove outside": lambda: os.unlink(outside + "/f"),
    "truncate outside": lambda: os.truncate(outside + "/f", 0),
    "write": lambda: open(home + "/f", "w"),
    "move": lambda: os.rename(home + "/f", home + "/d/f"),
    "move out": lambda: os.rename(home + "/d", outside + "/d"),
    "symlink": lambda: os.symlink("/", home + "/s"),
    "link": lambda: os.link(home + "/h", home + "/l"),
    "pipe": lambda: os.mkfifo(home + "/p"),
    "socket": lambda: socket.socket(socket.AF_UNIX),
    "attribute": lambda: os.setxattr(home, "user.x", b"x"),
    "connect": lambda: socket.create_connection(("127.0.0.1", 1)),
}
landlock.restrict([("/usr/lib", landlock.RUN), (home, landlock.CHANGE)])
system_calls.refuse()
found = []
for name, what in tries.items():
    try:
        what()
        found.append(name)
    except PermissionError:
        pass
    except OSError:
        assert name.startswith("move"), name
print(json.dumps(found))
"""


@pytest.mark.skipif(not landlock.abi(), reason="needs Landlock")
@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6, 7, 99])
def test_nothing_outside_and_no_links(tmp_path: Path, version: int):
    if version > max(landlock.abi(), 7) and version != 99:
        pytest.skip("newer than the kernel")
    for name in ("home", "home/d", "outside"):
        (tmp_path / name).mkdir()
    for name in ("home/h", "outside/f"):
        (tmp_path / name).write_text("x")
    version = min(version, landlock.abi())
    arguments = [str(ROOT), str(tmp_path / "home"), str(tmp_path / "outside"), str(version)]
    done = subprocess.run([sys.executable, "-I", "-c", TRY, *arguments], capture_output=True,
                          text=True, check=False, timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr
    allowed = {"write"} | ({"move"} if version >= 2 else set())
    # Cutting off files is a right of its own since the third.
    allowed |= {"truncate outside"} if version < 3 else set()
    if os.uname().machine not in ("x86_64", "aarch64"):
        allowed |= {"link", "socket", "attribute"}
    assert set(json.loads(done.stdout)) == allowed


async def test_off_and_missing_are_said(tmp_path: Path, monkeypatch):
    off = await find_confinement("off", str(tmp_path))
    assert (off.way, "switched off" in off.reason) == ("", True)
    monkeypatch.setattr(confinement.shutil, "which", lambda name: None)
    missing = await find_confinement("confined", str(tmp_path))
    assert (missing.way, "not installed" in missing.reason) == ("", True)


async def test_a_kernel_that_cannot_is_not_believed_to(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    refused = await find_confinement("confined", str(tmp_path))
    assert refused.way == ""
    assert "cannot be confined" in refused.reason
    allowed = await find_confinement("unconfined", str(tmp_path))
    assert allowed.way == "unconfined"


async def test_homes_among_the_libraries_are_refused(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(confinement.confining, "LIBRARIES", (str(tmp_path),))
    found = await find_confinement("confined", str(tmp_path / "homes"))
    assert found.way == ""
    assert "among the libraries" in found.reason


async def test_a_confinement_that_does_not_hold_is_found_out(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(confinement, "_FOREIGN", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = await find_confinement("confined", str(tmp_path))
    assert found.way == ""
    assert "does not keep rsync from other folders" in found.reason
