"""`zerostor up` as a user meets it: real processes, one folder, Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "gateway", *map(str, arguments)]


def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    found = subprocess.run(
        command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == code, found.stdout + found.stderr
    return found


class Up:
    """A running `zerostor up` on a free port."""

    def __init__(self, folder: Path, *, cwd: Path = ROOT) -> None:
        self.folder = folder
        self.screen_file = folder.with_suffix(".screen")
        with open(self.screen_file, "wb") as screen:
            self.process = subprocess.Popen(
                command("up", "--data", folder, "--listen", "127.0.0.1:0"),
                cwd=cwd,
                stdout=screen,
                stderr=screen,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
        self.until("Ctrl-C stops it")
        found = re.search(r"http://127\.0\.0\.1:\d+", self.screen)
        assert found
        self.url = found[0]

    @property
    def screen(self) -> str:
        return self.screen_file.read_text()

    def until(self, text: str) -> None:
        end = time.monotonic() + PATIENCE
        while text not in self.screen:
            assert self.process.poll() is None, self.screen
            assert time.monotonic() < end, self.screen + self.logs()
            time.sleep(0.05)

    def logs(self) -> str:
        return "\n".join(log.read_text()[-2000:] for log in self.folder.glob("logs/*.log"))

    def until_kept(self) -> None:
        """Return once its keeper leads, which starts behind all others."""
        end = time.monotonic() + PATIENCE
        while "keeps what is stored" not in self.logs():
            assert time.monotonic() < end, self.logs()
            time.sleep(0.05)

    def pid(self, name: str) -> int:
        """The process of that name among our children."""
        pattern = f"{name}.*{self.folder}"
        found = subprocess.run(
            ["pgrep", "-f", "-P", str(self.process.pid), pattern],
            capture_output=True,
            text=True,
            check=False,
        )
        return int(found.stdout.split()[0])

    def children(self) -> list[int]:
        found = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in found.stdout.split()]

    def stop(self, number: int = signal.SIGINT) -> int:
        children = self.children()
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
        return code


@pytest.fixture
def up(tmp_path):
    started = []

    def start(**keywords) -> Up:
        started.append(Up(tmp_path / "zerostor", **keywords))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.stop(signal.SIGTERM)


def test_a_file_goes_up_and_comes_back_after_everything_was_killed_once(up, tmp_path):
    zerostor = up()
    assert "20 of 20 up" in zerostor.screen
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(os.urandom(3_000_000))
    link = run("put", photo, "--server", zerostor.url).stdout.strip()
    assert re.fullmatch(re.escape(zerostor.url) + "/[0-9a-f]{56}\\.jpg", link)
    for name in ("gateway gateway", "worker", "zdb"):
        os.kill(zerostor.pid(name), signal.SIGKILL)
    for name in ("gateway", "worker", "zdb"):
        zerostor.until(f"{name} stopped (killed by SIGKILL); starting it again")
    end = time.monotonic() + PATIENCE
    fetched = tmp_path / "fetched.jpg"
    while subprocess.run(
        command("get", link, "-o", fetched), cwd=ROOT, capture_output=True, check=False
    ).returncode:
        assert time.monotonic() < end, zerostor.logs()
        time.sleep(0.1)
    assert fetched.read_bytes() == photo.read_bytes()
    again = run("put", photo, "--server", zerostor.url).stdout.strip()
    assert again.rpartition("/")[2][:48] == link.rpartition("/")[2][:48]
    assert zerostor.stop() == 0
    assert zerostor.screen.endswith("stopped\n")


def test_one_line_says_what_to_do(up, tmp_path):
    zerostor = up()
    second = run("up", "--data", zerostor.folder, "--listen", "127.0.0.1:0", code=1)
    assert re.fullmatch(
        r"zerostor: .* is in use by another `zerostor up` .*--data DIR\n", second.stderr
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        third = run("up", "--data", tmp_path / "other", "--listen", address, code=1)
    assert re.fullmatch(rf"zerostor: {address} is in use .*--listen HOST:PORT\n", third.stderr)
    fourth = run("up", "--data", "/proc/zerostor", code=1)
    assert re.fullmatch(r"zerostor: cannot write in .*--data DIR\n", fourth.stderr)


def test_a_store_that_is_gone_is_never_made_again_by_itself(up):
    zerostor = up()
    zerostor.stop()
    lost = zerostor.folder / "stores" / "07"
    lost.rename(lost.with_name("unplugged"))
    zerostor = up()
    assert f"warning: store 07 is not at {lost}" in zerostor.screen
    assert "19 of 20 up; not up: 07" in zerostor.screen
    assert not lost.exists()
    zerostor.stop()
    run("stores", "init", "07", "--data", zerostor.folder)
    assert "20 of 20 up" in up().screen


def test_it_runs_from_any_folder_whatever_lies_there(up, tmp_path):
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("redis.py", "click.py", "zerostor.py"):
        (trap / name).write_text("raise SystemExit('not this one')")
    started = subprocess.run(
        [sys.executable, "-P", "-m", "gateway", "up", "--data", "/proc/x"],
        cwd=trap,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert "cannot write" in started.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_is_small_when_idle(up):
    zerostor = up()
    zerostor.until_kept()
    rss = {}
    for pid in [zerostor.process.pid, *zerostor.children()]:
        status = Path(f"/proc/{pid}/status").read_text()
        rss[pid] = int(re.search(r"VmRSS:\s+(\d+)", status)[1])
    assert rss[zerostor.process.pid] < 35_000
    assert sum(rss.values()) < 250_000, rss


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_each_process_loads_what_it_needs(up):
    zerostor = up()
    zerostor.until_kept()
    # Only modules in C show here; each of these packages has some.
    loaded = {
        name: Path(f"/proc/{zerostor.pid(f'm gateway {name}')}/maps").read_text()
        for name in ("gateway", "worker", "zdb", "keeper")
    }
    assert os.getpriority(os.PRIO_PROCESS, zerostor.pid("m gateway keeper")) == 10
    assert [name for name in loaded if "/aiohttp/" in loaded[name]] == ["gateway"]
    assert [name for name in loaded if "/hiredis/" in loaded[name]] == ["gateway", "worker",
                                                                         "keeper"]


def test_it_outlives_its_terminal(tmp_path):
    screen, output = os.pipe()
    with subprocess.Popen(
        command("up", "--data", tmp_path / "d", "--listen", "127.0.0.1:0"),
        cwd=ROOT,
        stdout=output,
        stderr=output,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # as nohup does
    ) as process:
        os.close(output)
        shown = b""
        while b"Ctrl-C stops it" not in shown:
            shown += os.read(screen, 1000)
        os.close(screen)
        process.send_signal(signal.SIGHUP)
        zerostor = psutil.Process(process.pid)
        worker = next(child for child in zerostor.children() if "worker" in child.cmdline())
        worker.kill()
        end = time.monotonic() + PATIENCE
        while not any(
            child != worker and "worker" in child.cmdline() for child in zerostor.children()
        ):
            assert process.poll() is None, "it ended because it could not say that a worker did"
            assert time.monotonic() < end
            time.sleep(0.05)
        process.terminate()
        assert process.wait(PATIENCE) == 0
