"""A process becomes rsync, confined to one home: the last steps before it is started.

Imported by `confined` only: the standard library, and little of it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from typing import NamedTuple, NoReturn

from sshgw import landlock, namespaces, system_calls

LANDLOCK, NAMESPACE, UNCONFINED = "landlock", "namespace", "unconfined"
MEMORY_MAX = 1 << 29
"""Bytes of address space for each process of rsync."""
FILES_MAX = 256
LIBRARIES = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/local/lib", "/lib",
             "/lib64", "/nix/store", "/gnu/store")
"""What may be read and run: libraries. Of /etc nothing but where they are."""
LOADER_CACHE = "/etc/ld.so.cache"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
NOT_STARTED = 126
"""Exit status where rsync could not be confined or started."""
_RIGHTS = {"change": landlock.CHANGE, "read": landlock.READ, "remove": landlock.REMOVE}
_SET_DEATH_SIGNAL, _SET_NO_NEW_PRIVS, _SET_ORPHANS, _DROP_BOUND = 1, 38, 36, 24
_CAPABILITIES_3 = 0x20080522


class Order(NamedTuple):
    """way: one of the three. access: change, read, or remove (and read). largest: bytes of a file.

    program: path of rsync and its arguments.
    """

    way: str
    home: str
    access: str
    largest: int
    program: list[str]

    @property
    def inside(self) -> str:
        """Where the home is for the confined program."""
        return namespaces.HOME if self.way == NAMESPACE else self.home


def adopt_orphans() -> None:
    """Processes of rsync that lose their parent become ours, so that all can be waited for."""
    _prctl(_SET_ORPHANS, 1)


def become(order: Order, parent: int) -> NoReturn:
    """Confine this process and start the program. On failure a sentence on stderr, and the exit.

    parent: the process that this one must not outlive.
    """
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        _prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(NOT_STARTED)
        os.umask(0o022)
        os.chdir(order.home)
        _bound(order.largest)
        _confine(order)
        os.execve(order.program[0], order.program, ENVIRONMENT)  # noqa: S606
    except BaseException as error:  # noqa: BLE001
        os.write(2, f"zerostor: rsync could not be started: {error}\n".encode())
    os._exit(NOT_STARTED)


def _bound(largest: int) -> None:
    wanted = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: largest,
              resource.RLIMIT_NOFILE: FILES_MAX}
    if sys.platform == "linux":  # elsewhere it is not kept, or counts what the system maps
        wanted[resource.RLIMIT_AS] = MEMORY_MAX
    for kind, most in wanted.items():
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.setrlimit(kind, (most, most))


def _confine(order: Order) -> None:
    readable = [*LIBRARIES, order.program[0], LOADER_CACHE]
    if order.way == NAMESPACE:
        namespaces.enter(order.home, writable=order.access != "read", read=readable)
    if sys.platform == "linux":
        _give_up_root()
        _prctl(_SET_NO_NEW_PRIVS, 1)
        system_calls.refuse()
    if order.way == LANDLOCK:
        landlock.restrict([*((path, landlock.RUN) for path in readable),
                           (order.home, _RIGHTS[order.access])])


def _give_up_root() -> None:
    """No capability is left, also not after exec; groups neither."""
    if os.geteuid():
        return
    os.setgroups([])
    for capability in range(64):
        if not _prctl(_DROP_BOUND, capability):
            break
    head = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITIES_3, 0))
    if ctypes.CDLL(None, use_errno=True).capset(head, ctypes.create_string_buffer(bytes(24))):
        raise OSError(ctypes.get_errno(), "capabilities could not be given up")


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    call = ctypes.CDLL(None).prctl
    zero = ctypes.c_ulong(0)
    return bool(call(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero) == 0)
