"""The program between the SSH process and rsync: it confines, watches and ends it.

    python -I -S -c START ROOT WAY HOME ACCESS LARGEST CONTROL PROGRAM ARGUMENT...

It stays the parent of rsync, which has the standard streams and a process group of its own. Over
CONTROL, a socket, lines go both ways. From the SSH process: `budget N`, rsync may have written N
bytes since it began; `say`, how many are they; `full`, end it, and remove what is half-written.
The end of the socket means that the client is gone. To it: `at N`, the answer, and `spent N`
unasked, and then rsync stands still until there is more. It imports the standard library only, and
little of it: it is started for each transfer.
"""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import time
from typing import NamedTuple, NoReturn

from sshgw import confining

START = "import sys; sys.path.insert(0, sys.argv.pop(1)); import sshgw.confined as c; c.main()"
"""What the interpreter is given; the folder that holds this package follows it."""
GRACE = 3.0
"""Seconds that rsync has to put its things in order when the client is gone."""
_FASTEST = 2e9
_WAKE_MIN, _WAKE_MAX = 0.002, 0.25
_SCAN_REST = 10
_LINE_MAX = 4096
# As rsync names what is on its way: .NAME.XXXXXX
_UNFINISHED = re.compile(r"\..+\.[A-Za-z0-9]{6}", re.DOTALL)


def main() -> NoReturn:
    """Run what the arguments say; the exit status is that of rsync, or 128 and its signal."""
    way, home, access, largest, control, *program = sys.argv[1:]
    order = confining.Order(way, home, access, int(largest), program)
    os.set_inheritable(int(control), False)
    waker, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    confining.adopt_orphans()
    parent = os.getpid()
    child = os.fork()
    if not child:
        confining.become(order, parent)
    # What rsync closes must end: no copy of its streams stays here.
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os._exit(Watch(order, child, int(control), waker).run())


class Group(NamedTuple):
    """Processes of a process group, as known. at: when they were looked for. cost: seconds of it.
    """

    members: tuple[int, ...]
    at: float
    cost: float


class Watch:
    """rsync from its start to its end, all its processes included."""

    def __init__(self, order: confining.Order, child: int, control: int, waker: int) -> None:
        self._order = order
        self._child = child
        self._control = control
        self._waker = waker
        self._pending = b""
        self._budget: int | None = None
        self._stopped = False
        self._deadline: float | None = None
        self._status: int | None = None
        self._wrote: dict[int, int] = {}
        self._group = Group((child,), 0.0, 0.0)

    def run(self) -> int:
        """Return once no process of rsync is left."""
        poller = select.poll()
        poller.register(self._waker, select.POLLIN)
        poller.register(self._control, select.POLLIN)
        while self._status is None:
            for fd, _ in poller.poll(self._wait()):
                if fd == self._waker:
                    self._reap()
                elif not self._listen():
                    poller.unregister(self._control)
                    self._leave()
            self._check()
        self._signal(signal.SIGKILL)
        self._reap(options=0)
        return self._status

    def _wait(self) -> float | None:
        """Milliseconds until there is something to look at."""
        if self._deadline is not None:
            return max(0.0, self._deadline - time.monotonic()) * 1000
        if self._budget is None or self._stopped:
            return None
        left = (self._budget - sum(self._wrote.values())) / _FASTEST
        return min(max(left, _WAKE_MIN), _WAKE_MAX) * 1000

    def _check(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._signal(signal.SIGKILL)
            self._deadline = time.monotonic() + GRACE
        if self._budget is None or self._stopped or self._deadline is not None:
            return
        written = self._written()
        if written >= self._budget:
            self._signal(signal.SIGSTOP)
            self._stopped = True
            self._say(b"spent", self._written())

    def _listen(self) -> bool:
        """Do what the SSH process says; False once it says nothing more."""
        try:
            received = os.read(self._control, _LINE_MAX)
        except OSError:
            received = b""
        *lines, self._pending = (self._pending + received).split(b"\n")
        for line in lines:
            word, _, value = line.partition(b" ")
            if word == b"budget":
                self._budget = int(value)
                self._go_on()
            elif word == b"say":
                self._say(b"at", self._written())
            elif word == b"full":
                self._cut_off()
        return received != b""

    def _say(self, word: bytes, written: int) -> None:
        try:
            os.write(self._control, b"%b %d\n" % (word, written))
        except OSError:  # the SSH process is gone: the next read says so
            return

    def _go_on(self) -> None:
        if self._stopped and self._budget is not None:
            self._stopped = self._written() >= self._budget
            if self._stopped:
                self._say(b"spent", self._written())
            else:
                self._signal(signal.SIGCONT)

    def _leave(self) -> None:
        """The client is gone: rsync keeps or removes what is unfinished, as it was told to."""
        if self._deadline is None:
            self._deadline = time.monotonic() + GRACE
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)

    def _cut_off(self) -> None:
        """End it where it stands. What it was writing is known exactly, so nothing else goes."""
        self._signal(signal.SIGSTOP)
        unfinished = self._unfinished()
        self._signal(signal.SIGKILL)
        self._deadline = time.monotonic() + GRACE
        for path in unfinished:
            try:
                os.unlink(path)
            except OSError:  # gone already
                continue

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._child, number)
        except (ProcessLookupError, PermissionError):  # ended; macOS says EPERM of the dead
            return

    def _reap(self, options: int = os.WNOHANG) -> None:
        try:
            if options:
                os.read(self._waker, _LINE_MAX)
            while (ended := os.waitpid(-1, options))[0]:
                if ended[0] == self._child:
                    code = os.waitstatus_to_exitcode(ended[1])
                    self._status = code if code >= 0 else 128 - code
        except ChildProcessError:
            return

    def _written(self) -> int:
        """Bytes that all processes wrote, to files or elsewhere: at least what the home grew by."""
        for process in self._members():
            try:
                with open(f"/proc/{process}/io", "rb") as counters:
                    self._wrote[process] = int(counters.read().split(b"\n", 2)[1][7:])
            except (OSError, ValueError, IndexError):  # it ended, or this system does not count
                continue
        return sum(self._wrote.values())

    def _members(self) -> tuple[int, ...]:
        """Looked for rarely once both are there: who receives and who compares."""
        now = time.monotonic()
        rest = self._group.cost * _SCAN_REST if len(self._group.members) < 2 else 1.0
        if now - self._group.at >= rest:
            try:
                found = tuple(process for process in map(int, filter(str.isdigit,
                              os.listdir("/proc"))) if _group_of(process) == self._child)
            except OSError:
                found = (self._child,)
            self._group = Group(found, now, time.monotonic() - now)
        return self._group.members

    def _unfinished(self) -> list[str]:
        """Paths of the files that rsync has open under names that it made up."""
        if "--inplace" in self._order.program:
            return []
        self._group = Group((), 0.0, 0.0)
        paths = []
        for process in self._members():
            for number in _names(f"/proc/{process}/fd"):
                path = _target(f"/proc/{process}/fd/{number}")
                within = path.removeprefix(self._order.inside + "/")
                if within != path and _UNFINISHED.fullmatch(path.rpartition("/")[2]):
                    paths.append(f"{self._order.home}/{within}")
        return paths


def _group_of(process: int) -> int:
    try:
        return os.getpgid(process)
    except OSError:
        return 0


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
