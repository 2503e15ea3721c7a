"""SSH homes as OpenSSH's own sftp uses them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.ssh_server import SshServer

pytestmark = pytest.mark.skipif(shutil.which("sftp") is None, reason="no OpenSSH client here")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    server = SshServer(tmp_path_factory.mktemp("ssh"))
    server.start()
    yield server
    server.stop()


def test_a_file_goes_in_and_comes_back(server: SshServer, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "photo").write_bytes(content)
    done = server.sftp("put photo\nls -l\nget photo back\nrm photo\n", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3000000" in done.stdout
    assert (tmp_path / "back").read_bytes() == content
    assert not (server.home() / "photo").exists()
