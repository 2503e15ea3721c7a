"""Landlock: a process gives up, for good, all files and networks but those it names.

Linux 5.13 and later; no rights are needed. Source: landlock(7), linux/landlock.h. This module is
imported by a program that starts for each transfer: the standard library only, and little of it.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_CREATE_VERSION = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_REFER, _TRUNCATE = 1 << 13, 1 << 14
READ = _READ_FILE | _READ_DIR
RUN = READ | _EXECUTE
REMOVE = READ | _REMOVE_FILE
CHANGE = (READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER
          | _TRUNCATE)
"""All that is done to files and folders; links, devices, sockets and pipes cannot be made."""
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
# How many rights over files each ABI knows, from the first; ABI 4 adds TCP, 6 scopes.
_FILE_RIGHTS = (0, 13, 14, 15, 15, 16)
_NET_ABI, _NET_RIGHTS = 4, 0b11
_SCOPE_ABI, _SCOPES = 6, 0b11


def abi() -> int:
    """Version of what the kernel can do; 0 where it has no Landlock."""
    if sys.platform != "linux":  # the number means something else there
        return 0
    try:
        return _syscall(_CREATE, None, 0, _CREATE_VERSION)
    except OSError:
        return 0


def restrict(rights: Iterable[tuple[str, int]]) -> None:
    """Keep of the files only what `rights` says of paths and all below; no TCP, no signals out.

    Paths that are not there are left out. Needs NO_NEW_PRIVS. Raises OSError.
    """
    version = abi()
    handled = (1 << _FILE_RIGHTS[min(version, len(_FILE_RIGHTS) - 1)]) - 1
    attributes = struct.pack(
        "=QQQ",
        handled,
        _NET_RIGHTS if version >= _NET_ABI else 0,
        _SCOPES if version >= _SCOPE_ABI else 0,
    )
    size = 24 if version >= _SCOPE_ABI else 16 if version >= _NET_ABI else 8
    ruleset = _syscall(_CREATE, attributes, size, 0)
    for path, allowed in rights:
        _allow(ruleset, path, allowed & handled)
    _syscall(_RESTRICT, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, allowed: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            allowed &= _OF_FILES
        _syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", allowed, place), 0)
    finally:
        os.close(place)


def _syscall(number: int, *arguments: object) -> int:
    wide = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    found: int = ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *wide)
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found
