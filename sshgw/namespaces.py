"""The second way to confine, where the kernel has no Landlock and we are root: a tree of its own.

A mount namespace that holds the home and the libraries, these to be read only, and no network.
Source: mount_namespaces(7), pivot_root(2).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

HOME = "/home"
"""Where the home is in that tree."""
_NEW_NS, _NEW_IPC, _NEW_NET = 0x00020000, 0x08000000, 0x40000000
_READ_ONLY, _NO_SUID, _NO_DEV, _NO_EXEC = 1, 2, 4, 8
_REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 32, 4096, 16384, 1 << 18
_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}


def enter(root: str, *, writable: bool, read: Iterable[str]) -> None:
    """Leave the tree of the host for one of `root`, at HOME, and the paths of `read`.

    Takes CAP_SYS_ADMIN. The working folder is HOME then. Raises OSError.
    """
    if os.uname().machine not in _PIVOT_ROOT:
        raise OSError(f"not known on {os.uname().machine}")
    _call("unshare", _NEW_NS | _NEW_IPC | _NEW_NET)
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    home = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    # Over the folder that holds the homes, since that is there for sure; nobody else sees it.
    tree = os.path.dirname(os.path.realpath(root))
    places = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in read
              if os.path.exists(path)]
    _mount("tmpfs", tree, "tmpfs", _NO_SUID | _NO_DEV)
    for path, place in places:
        _bind(place, tree + path, _READ_ONLY | _NO_SUID | _NO_DEV)
    _bind(home, tree + HOME, _NO_SUID | _NO_DEV | _NO_EXEC | (0 if writable else _READ_ONLY))
    _mount(None, tree, None, _REMOUNT | _READ_ONLY | _NO_SUID | _NO_DEV)
    os.chdir(tree)
    _call("syscall", _PIVOT_ROOT[os.uname().machine], b".", b".")
    _call("umount2", b".", _DETACH)
    os.chdir(HOME)


def _bind(place: int, target: str, flags: int) -> None:
    source = f"/proc/self/fd/{place}"
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o600))
    _mount(source, target, None, _BIND)
    _mount(None, target, None, _BIND | _REMOUNT | flags)


def _mount(source: str | None, target: str, kind: str | None, flags: int) -> None:
    _call("mount", source and os.fsencode(source), os.fsencode(target), kind and kind.encode(),
          flags, None)


def _call(name: str, *arguments: object) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    wide = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    if function(*wide):
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
