"""Keeps the processes of `zerostor up` running: starts, restarts, and stops them in order.

One thread, asleep until a child or a signal wakes it. Knows nothing of what the children do.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

BACKOFF_FIRST = 0.2
BACKOFF_MAX = 10.0
HEALTHY = 30.0
"""Seconds after which a child that dies is restarted as if it had never died before."""
STOP_WAIT = 10.0
LATE = 5.0
POLL = 0.1
LOG_MAX = 8 * 1024 * 1024
LOG_CHECK = 60.0
_PR_SET_PDEATHSIG = 1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Child(NamedTuple):
    """A process to keep running. orphaned: its signal if the supervisor is killed (Linux).

    late: it is started once all others are ready, or after LATE seconds, so that it delays nobody.
    """

    name: str
    command: Sequence[str]
    orphaned: int = signal.SIGKILL
    late: bool = False


class _Kept:
    """A child, its process, and when it is started again."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.due = time.monotonic() + LATE if child.late else 0.0
        self.delay = BACKOFF_FIRST


class Supervisor:
    """Runs children until a signal comes. logs: a folder, one NAME.log for each child.

    children: in the order of starting; they are stopped in the reverse. say: prints one line.
    """

    def __init__(self, children: Sequence[Child], logs: Path, say: Callable[[str], None]) -> None:
        self._kept = [_Kept(child) for child in children]
        self._logs = logs
        self._say = say
        self._signals = 0
        self._lifeline = os.pipe() if sys.platform != "linux" else None
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def run(self, ready: Callable[[], bool]) -> None:
        """Return when SIGINT, SIGTERM or SIGHUP came and all children are gone.

        ready: asked every POLL seconds until it is true; then this sleeps.
        """
        with self._woken() as wakeup:
            try:
                self._keep(ready, wakeup)
            finally:
                self._stop_all()

    def _keep(self, ready: Callable[[], bool], wakeup: socket.socket) -> None:
        is_ready = False
        check_logs = time.monotonic() + LOG_CHECK
        while not self._signals:
            now = time.monotonic()
            for kept in self._kept:
                self._look_after(kept, now)
            if not is_ready and ready():
                is_ready = True
                self._start_late(now)
            if now >= check_logs:
                self._bound_logs()
                check_logs = now + LOG_CHECK
            times = [kept.due for kept in self._kept if kept.process is None] + [check_logs]
            times += [] if is_ready else [now + POLL]
            if not self._signals:
                select.select([wakeup], [], [], max(0.0, min(times) - time.monotonic()))
            with contextlib.suppress(BlockingIOError):
                wakeup.recv(4096)

    def _look_after(self, kept: _Kept, now: float) -> None:
        process = kept.process
        if process is not None and process.poll() is not None:
            kept.process = None
            if now - kept.started >= HEALTHY:
                kept.delay = BACKOFF_FIRST
            kept.due = now + kept.delay
            self._say(
                f"{kept.child.name} stopped ({_cause(process.returncode)}); starting it again in"
                f" {kept.delay:g} s; {self._last_words(kept, process.returncode)}"
            )
            kept.delay = min(2 * kept.delay, BACKOFF_MAX)
            # What it may have left running would hold its socket or its port.
            _signal_group(process.pid, signal.SIGKILL)
        if kept.process is None and now >= kept.due:
            self._start(kept)

    def _start_late(self, now: float) -> None:
        for kept in self._kept:
            if kept.child.late and not kept.started:
                kept.due = now

    def _start(self, kept: _Kept) -> None:
        log = self._log(kept)
        bound_log(log)
        command = list(kept.child.command)
        kept.started = time.monotonic()
        with open(log, "ab") as output:
            try:
                kept.process = self._spawn(kept, command, output.fileno())
            except OSError as error:
                kept.due, kept.delay = kept.started + kept.delay, min(2 * kept.delay, BACKOFF_MAX)
                self._say(f"{kept.child.name} cannot be started: {error}")

    def _spawn(self, kept: _Kept, command: list[str], log: int) -> subprocess.Popen[bytes]:
        parent, libc = os.getpid(), self._libc
        keep_open = self._lifeline[:1] if self._lifeline else ()
        if keep_open:
            command = [sys.executable, "-m", "gateway.lifeline", str(keep_open[0]), *command]

        def die_with_parent() -> None:
            if libc is not None:
                libc.prctl(_PR_SET_PDEATHSIG, int(kept.child.orphaned), 0, 0, 0)
                if os.getppid() != parent:
                    os._exit(1)

        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=keep_open,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    def _stop_all(self) -> None:
        for kept in reversed(self._kept):
            process = kept.process
            if process is None:
                continue
            if process.poll() is None:
                process.terminate()
            deadline = time.monotonic() + STOP_WAIT
            # A second signal means now.
            while process.poll() is None and time.monotonic() < deadline and self._signals < 2:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
            if process.poll() is None:
                self._say(f"{kept.child.name} did not stop in time; killed")
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()

    @contextlib.contextmanager
    def _woken(self) -> Iterator[socket.socket]:
        """A socket that is readable once a signal came, which a select() alone may miss."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        # nohup has SIGHUP ignored, and means it.
        kept = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
        before = {number: signal.signal(number, self._count)
                  for number in _SIGNALS if number not in kept}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(previous)
            for number, handler in before.items():
                signal.signal(number, handler)
            reader.close()
            writer.close()

    def _count(self, *_: object) -> None:
        self._signals += 1

    def _log(self, kept: _Kept) -> Path:
        return self._logs / f"{kept.child.name}.log"

    def _bound_logs(self) -> None:
        for kept in self._kept:
            bound_log(self._log(kept))

    def _last_words(self, kept: _Kept, code: int) -> str:
        log = self._log(kept)
        if code < 0:
            return f"see {log}"
        try:
            with open(log, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 2000))
                lines = file.read().decode(errors="replace").split("\n")
        except OSError:
            lines = []
        words = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"{words[:200]} (see {log})" if words else f"see {log}"


def bound_log(log: Path) -> None:
    """Move what is in a large log to NAME.log.1; who has it open to append goes on in it."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_MAX:
            shutil.copyfile(log, f"{log}.1")
            os.truncate(log, 0)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
