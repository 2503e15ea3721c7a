"""The command line as a process, on terminals and with signals."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time

import pytest

from tests.fakes.tiny_gateway import tiny_gateway

PATIENCE = 60.0


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


def on_a_terminal(gateway, columns, *arguments, until=b"", **keywords):
    """All that a command writes to a terminal, until `until` or its end."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    whole = [sys.executable, "-m", "gateway", *arguments]
    environment = {name: text for name, text in os.environ.items() if name != "COLUMNS"}
    environment |= {"ZEROSTOR_SERVER": gateway.url, "TERM": "xterm"}
    streams = {"stdout": theirs, "stderr": theirs} | keywords
    process = subprocess.Popen(whole, env=environment, stdin=theirs, **streams)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: no one has the terminal open any more
        while (not until or until not in shown) and (block := os.read(ours, 65536)):
            shown += block
    process.kill()
    process.wait()
    os.close(ours)
    return shown.decode()


def lines_of(shown):
    """What was on a line of the terminal at some time; 'erase' and 'up' begin new ones."""
    lines = re.split(r"[\r\n]|\x1b\[2K|\x1b\[1A", shown)
    return [re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", line).rstrip() for line in lines]


def test_results_are_printed_above_the_bars(gateway, tmp_path):
    names = [f"{number}.txt" for number in range(3)]
    for name in names:
        (tmp_path / name).write_bytes(os.urandom(100_000))
    lines = lines_of(on_a_terminal(
        gateway, 120, "put", "--parallel", "1", *(str(tmp_path / name) for name in names)))
    links = [line for line in lines if "http://" in line]
    assert len(links) == 3
    assert all(line.startswith("http://") and line.endswith(".txt") for line in links)
    told = [line for line in lines if "B/s" in line and " in " in line]
    assert len(told) == 3
    assert all(line.startswith(f"{tmp_path}/") for line in told)


def test_a_link_for_a_pipe_does_not_go_to_the_terminal(gateway, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"hello")
    with open(tmp_path / "out", "wb") as out:
        shown = on_a_terminal(gateway, 80, "put", str(tmp_path / "a.txt"), stdout=out)
    assert "http://" not in shown
    assert (tmp_path / "out").read_text().startswith("http://")


def test_bars_do_not_wrap_on_a_narrow_terminal(gateway, tmp_path):
    file = tmp_path / "a-name-that-is-longer-than-what-there-is-room-for.txt"
    file.write_bytes(bytes(10_000_000))
    gateway.polls, gateway.waits = 10**9, "16 of 20 stores are up and 18 shards must be durable"
    shown = on_a_terminal(gateway, 40, "put", str(file), "--wait", "2s", until=b"zerostor: ")
    shown = shown.partition("zerostor: ")[0]
    assert "waits: 16 of" in shown
    frames = lines_of(shown)
    assert all(len(line) <= 40 for line in frames)
    assert "\n" not in shown.strip(), "each frame is one line"


def test_put_says_once_why_it_waits(gateway, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"hello")
    gateway.polls, gateway.waits = 5, "16 of 20 stores are up"
    with started(gateway, "put", str(tmp_path / "a.txt"), stdout=subprocess.PIPE) as process:
        out, told = process.communicate(timeout=PATIENCE)
    assert out.startswith(b"http://")
    assert told.startswith(b"a.txt: waits: 16 of 20 stores are up\n")
    assert told.count(b"waits") == 1
