"""`zerostor node flash` from a file: what is wrong is said before anything is put together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tidy.source_tree import ROOT

GOOD = {"name": "shed-1", "key": "00" * 32, "update_key": "11" * 32}


def flash(folder: Path, settings: Any, *more: str) -> tuple[int, str]:
    file = folder / "shed-1.json"
    file.write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "node", "flash", "/dev/no-such-port", str(file),
         "--folder", str(folder / "out"), *more],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stderr


@pytest.mark.parametrize("lacking", ["name", "key", "update_key"])
def test_a_file_that_lacks_something_is_named(tmp_path: Path, lacking: str) -> None:
    for wrong in ({name: text for name, text in GOOD.items() if name != lacking},
                  GOOD | {"key": 7}):
        code, said = flash(tmp_path, wrong, "--hub", "10.0.0.5:7777")
        assert code == 2 and "is not what" in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_texts_that_a_device_would_not_read_are_refused(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("x" * 65)
    for option, value in (("--hub", "h" * 61 + ".lan:7777"), ("--wifi", "x" * 65),
                          ("--wifi-password-file", str(password))):
        code, said = flash(tmp_path, GOOD, "--hub", "10.0.0.5:7777", option, value)
        assert code == 2 and f"{option}: a device keeps texts of at most 64" in said
    assert not (tmp_path / "out").exists()
