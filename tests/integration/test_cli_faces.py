"""The command line as a process, on terminals and with signals."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from tests.fakes.tiny_gateway import tiny_gateway

PATIENCE = 20.0


@pytest.fixture
def gateway():
    with tiny_gateway() as server:
        yield server


@contextlib.contextmanager
def started(gateway, *arguments, **keywords):
    """A command of ours that runs, and is gone afterwards."""
    whole = [sys.executable, "-m", "gateway", *arguments]
    environment = os.environ | {"ZEROSTOR_SERVER": gateway.url}
    with subprocess.Popen(whole, env=environment, stderr=subprocess.PIPE, **keywords) as process:
        try:
            yield process
        finally:
            process.kill()


def eventually(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_ctrl_c_ends_a_put_that_waits_and_names_the_job(gateway, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"hello")
    gateway.polls = 10**9
    with started(gateway, "put", str(tmp_path / "a.txt")) as process:
        eventually(lambda: gateway.asked)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=PATIENCE)[1].decode()
    assert process.returncode == 130
    assert told.count("\n") == 1
    assert f"it goes on: `zerostor status {0:032x} --wait 5m`" in told


def test_ctrl_c_ends_a_put_that_reads_a_terminal(gateway):
    ours, theirs = pty.openpty()
    with started(gateway, "put", "-", stdin=theirs) as process:
        os.write(ours, b"typed\n")
        eventually(lambda: threads_of(process) > 1)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE)[1] == b""
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 130


def threads_of(process):
    if sys.platform != "linux":
        time.sleep(1)
        return 2
    return len(os.listdir(f"/proc/{process.pid}/task"))
