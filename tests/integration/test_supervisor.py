"""The supervisor with small children, as processes of their own: restarts, order, no orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.commands.folder import free_address, make_folders, only_one
from gateway.supervisor import LOG_MAX, bound_log
from zerostor.config import load
from zerostor.core.errors import SetupError
from zerostor.core.units import Address

PATIENCE = 60.0
STAY = "import signal,time\nprint('hello', flush=True)\ntime.sleep(600)"
"""A child that runs until it is told to end."""


def until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


class Supervised:
    """A supervisor in a process of its own. children: name to Python source, in starting order."""

    def __init__(self, folder: Path, lifeline: bool = False, **children: str) -> None:
        self.folder = folder
        for name, source in children.items():
            note = f"import os\nopen({str(folder / name)!r} + '.pids', 'a')"
            note += ".write(f'{os.getpid()}\\n')\n"
            (folder / f"{name}.py").write_text(note + textwrap.dedent(source))
        platform = "import sys; sys.platform = 'darwin'\n" if lifeline else ""
        main = platform + textwrap.dedent(f"""
            import sys, pathlib
            from gateway.supervisor import Child, Supervisor
            folder = pathlib.Path({str(folder)!r})
            children = [Child(name, [sys.executable, str(folder / (name + '.py'))])
                        for name in {list(children)!r}]
            asked = []
            def ready():
                asked.append(1)
                if len(asked) == 3: print('ready', flush=True)
                return len(asked) == 3
            Supervisor(children, folder, lambda line: print(line, flush=True)).run(ready)
            print('ended', flush=True)
        """)
        self.screen_file = folder / "screen"
        with open(self.screen_file, "wb") as screen:
            # Below nohup SIGHUP comes in ignored, and stays so.
            self.process = subprocess.Popen(
                [sys.executable, "-c", main], stdout=screen, stderr=screen,
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)
            )

    @property
    def screen(self) -> str:
        return self.screen_file.read_text()

    def pids(self, name: str) -> list[int]:
        file = self.folder / f"{name}.pids"
        lines = file.read_text().split("\n")[:-1] if file.exists() else []
        return [int(line) for line in lines]

    def all_pids(self) -> list[int]:
        return [pid for file in self.folder.glob("*.pids") for pid in self.pids(file.stem)]

    def started(self, *names: str) -> None:
        for name in names:
            log = self.folder / f"{name}.log"
            until(lambda log=log: log.exists() and "hello" in log.read_text(), f"{name} starts")


@pytest.fixture
def supervise(tmp_path):
    made = []

    def start(**keywords) -> Supervised:
        made.append(Supervised(tmp_path, **keywords))
        return made[-1]

    yield start
    for supervised in made:
        supervised.process.kill()
        supervised.process.wait()
        for pid in supervised.all_pids():
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_stops_on_a_signal_in_reverse_order(supervise, tmp_path, number):
    ending = """
        import signal, sys, time
        def end(*_):
            open({order!r}, 'a').write({name!r})
            sys.exit()
        signal.signal(signal.SIGTERM, end)
        print('hello', flush=True)
        while True: time.sleep(600)
    """
    order = str(tmp_path / "order")
    supervised = supervise(
        **{name: ending.format(order=order, name=name) for name in ("a", "b", "c")}
    )
    supervised.started("a", "b", "c")
    until(lambda: "ready" in supervised.screen, "ready is asked until it is true")
    supervised.process.send_signal(number)
    assert supervised.process.wait(PATIENCE) == 0
    assert Path(order).read_text() == "cba"
    assert supervised.screen.endswith("ended\n")
    assert not any(alive(pid) for pid in supervised.all_pids())


def test_a_child_that_dies_is_started_again_and_said_so(supervise):
    supervised = supervise(a=STAY, b=STAY)
    supervised.started("a", "b")
    for deaths in (1, 2):
        os.kill(supervised.pids("a")[-1], signal.SIGKILL)
        until(lambda n=deaths: len(supervised.pids("a")) == n + 1, "a comes back")
    assert supervised.screen.count("a stopped (killed by SIGKILL); starting it again in") == 2
    assert "in 0.2 s; see " in supervised.screen
    assert "in 0.4 s" in supervised.screen, "and waits longer each time"
    assert len(supervised.pids("b")) == 1, "the other one was left alone"


def test_a_child_that_cannot_run_is_tried_less_and_less(supervise):
    supervised = supervise(a="raise SystemExit('it broke')")
    until(lambda: len(supervised.pids("a")) >= 4, "it is tried again")
    waits = [
        line.split(" again in ")[1].split(" s;")[0]
        for line in supervised.screen.splitlines()
        if " again in " in line
    ]
    assert waits[:3] == ["0.2", "0.4", "0.8"]
    assert "a stopped (exit code 1)" in supervised.screen
    assert "; it broke (see " in supervised.screen


def test_what_a_dead_child_left_running_is_killed_before_it_comes_back(supervise, tmp_path):
    grandchild = tmp_path / "grandchild"
    supervised = supervise(
        a=f"""
        import os, subprocess, sys, time
        sleeper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
        open({str(grandchild)!r}, 'a').write(f'{{sleeper.pid}}\\n')
        print('hello', flush=True)
        time.sleep(600)
        """
    )
    supervised.started("a")
    left = int(grandchild.read_text())
    os.kill(supervised.pids("a")[0], signal.SIGKILL)
    until(lambda: not alive(left), "the grandchild dies with its parent's group")
    until(lambda: len(supervised.pids("a")) == 2, "a comes back")
    supervised.process.terminate()
    supervised.process.wait(PATIENCE)
    assert not any(alive(int(pid)) for pid in grandchild.read_text().split())


@pytest.mark.parametrize(
    "lifeline", [pytest.param(False, id="linux"), pytest.param(True, id="mac")]
)
def test_kill_9_of_the_supervisor_leaves_no_orphan(supervise, lifeline):
    if not lifeline and sys.platform != "linux":
        pytest.skip("PR_SET_PDEATHSIG is Linux's")
    supervised = supervise(lifeline=lifeline, a=STAY, b=STAY)
    supervised.started("a", "b")
    supervised.process.kill()
    supervised.process.wait()
    until(lambda: not any(alive(pid) for pid in supervised.all_pids()), "all children are gone")


def test_stopping_passes_through_the_lifeline(supervise):
    supervised = supervise(lifeline=True, a=STAY)
    supervised.started("a")
    supervised.process.terminate()
    assert supervised.process.wait(PATIENCE) == 0
    assert not any(alive(pid) for pid in supervised.all_pids())


def test_a_second_signal_does_not_wait_for_a_child_that_will_not_end(supervise):
    stubborn = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + STAY
    supervised = supervise(a=stubborn)
    supervised.started("a")
    supervised.process.send_signal(signal.SIGINT)
    supervised.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    supervised.process.send_signal(signal.SIGINT)
    assert supervised.process.wait(8.0) == 0, "the grace period is 10 s"
    assert "a did not stop in time; killed" in supervised.screen
    assert not any(alive(pid) for pid in supervised.all_pids())


def test_a_large_log_is_cut_while_it_is_being_written(tmp_path):
    log = tmp_path / "a.log"
    with open(log, "ab", buffering=0) as writer:
        writer.write(b"x" * LOG_MAX)
        bound_log(log)
        assert log.stat().st_size == LOG_MAX
        writer.write(b"y")
        bound_log(log)
        writer.write(b"z")
    assert log.read_bytes() == b"z"
    assert (tmp_path / "a.log.1").stat().st_size == LOG_MAX + 1
    bound_log(tmp_path / "missing.log")


def test_one_folder_is_for_one(tmp_path):
    paths = load(tmp_path, environ={}).paths
    make_folders(paths)
    refused = pytest.raises(SetupError, match=rf"in use .*process {os.getpid()}\)")
    with only_one(paths), refused, only_one(paths):
        pass
    with only_one(paths):
        pass


def test_the_lock_does_not_outlive_its_holder(tmp_path):
    paths = load(tmp_path, environ={}).paths
    make_folders(paths)
    hold = (
        "import pathlib, sys, time, subprocess\n"
        "from gateway.commands.folder import only_one\nfrom zerostor.config import load\n"
        f"with only_one(load(pathlib.Path({str(tmp_path)!r}), environ={{}}).paths):\n"
        "    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "    print('held', flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdout=subprocess.PIPE, start_new_session=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            with pytest.raises(SetupError, match="in use"), only_one(paths):
                pass
            holder.kill()
            holder.wait()
            with only_one(paths):
                pass
        finally:
            os.killpg(holder.pid, signal.SIGKILL)


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "spool").write_text("a file where a folder should be")
    with pytest.raises(SetupError, match=r"cannot write in .*spool .*--data DIR"):
        make_folders(load(tmp_path, environ={}).paths)
    with pytest.raises(SetupError, match="cannot write in"):
        make_folders(load(Path("/proc/zerostor"), environ={}).paths)


def test_folders_are_private(tmp_path):
    paths = load(tmp_path / "new" / "place", environ={}).paths
    make_folders(paths)
    assert paths.run.stat().st_mode & 0o077 == 0
    paths.run.chmod(0o777)
    make_folders(paths)
    assert paths.run.stat().st_mode & 0o077 == 0
    paths.run.rmdir()
    paths.run.symlink_to(tmp_path)
    with pytest.raises(SetupError, match="belongs to someone else"):
        make_folders(paths)


def test_a_port_in_use_is_said():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match=f"127.0.0.1:{port} is in use .*--listen HOST:PORT"):
            free_address(Address("127.0.0.1", port))
    free_address(Address("127.0.0.1", port))
    assert free_address(Address("", 0)).port
    assert free_address(Address("localhost", 0)).port
    with pytest.raises(SetupError, match="--listen"):
        free_address(Address("no-such-host.invalid", 80))
    with pytest.raises(SetupError, match="--listen"):
        free_address(Address("203.0.113.7", 80))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_supervisor_stays_light():
    probe = (
        "import gateway.supervisor, gateway.commands.folder, gateway.commands.up, zerostor.config\n"
        "import zerostor.stores.folder_marker\n"
        "print(open('/proc/self/status').read().split('VmRSS:')[1].split()[0])"
    )
    rss = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True).stdout
    assert int(rss) < 35_000
