"""System calls that a confined program gives up for good: those that make links, devices, sockets.

Landlock lets hard links pass, and knows neither UDP nor unix sockets; a mount namespace knows none
of these. Source: seccomp(2), linux/filter.h, the tables of system calls of the two machines.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _MACHINE = 0, 4
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_X32 = 0x40000000
# link linkat symlink symlinkat mknod mknodat, socket, setxattr lsetxattr fsetxattr, ptrace,
# mount unshare setns, io_uring_setup
_REFUSED = {
    "x86_64": (0xC000003E, (86, 265, 88, 266, 133, 259, 41, 188, 189, 190, 101, 165, 272, 308,
                            425)),
    "aarch64": (0xC00000B7, (37, 36, 33, 198, 5, 6, 7, 117, 40, 97, 268, 425)),
}


def refuse() -> bool:
    """Have them fail with EPERM, here and in all that is started; False where that is not known.

    Needs NO_NEW_PRIVS. Raises OSError.
    """
    machine = os.uname().machine
    if machine not in _REFUSED or os.uname().sysname != "Linux":
        return False
    code, calls = _REFUSED[machine]
    program = _program(code, calls)
    count = len(program) // 8
    place = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxP", count, ctypes.addressof(place))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_SECCOMP, ctypes.c_long(_MODE_FILTER), head, ctypes.c_long(0),
                     ctypes.c_long(0)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return True


def _program(machine: int, calls: tuple[int, ...]) -> bytes:
    """Steps of 8 bytes: what, how many steps on if true, if false, with what."""
    last = len(calls) + 4
    steps = [
        (_LOAD, 0, 0, _MACHINE),
        (_EQUAL, 0, last - 1, machine),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, last - 3, 0, _X32),
    ]
    steps += [(_EQUAL, last - 4 - at, 0, call) for at, call in enumerate(calls)]
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)
