"""The line that sftp clients show for a file: the hour of what is new, the year of what is not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sshgw.sftp_wire import long_name

DAY = 86400.0


@pytest.mark.parametrize(("age", "last"), [
    (2 * DAY, "%H:%M"), (400 * DAY, " %Y"), (-DAY, " %Y")])
def test_the_hour_of_what_is_new_the_year_of_what_is_not(
    tmp_path: Path, age: float, last: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    at = time.time() - age
    os.utime(file, (at, at))
    line = long_name(b"some name", file.stat()).decode()
    assert line.startswith("-rw")
    assert line.endswith(time.strftime(f" 5 %b %e {last} some name", time.localtime(at)))
