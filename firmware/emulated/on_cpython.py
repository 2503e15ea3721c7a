"""Power on, without MicroPython: CPython runs the same node, littlefs-python is its file system.

Arguments as for start.py. What MicroPython has and CPython has not is put into place here; there is
no limit to the heap, and applications cannot be updated.
"""

import builtins
import gc
import os
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import littlefs
from littlefs import lfs

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]


class Host:
    """Files of the host, unbuffered as far as they are bytes."""

    rename = staticmethod(os.replace)

    @staticmethod
    def open(path, mode):
        """Open one."""
        return open(path, mode, buffering=0 if "b" in mode else -1)


@contextmanager
def littlefs_errors():
    """An error of littlefs-python as the OSError that MicroPython makes of it."""
    try:
        yield
    except littlefs.LittleFSError as error:
        raise OSError(-int(error.code), str(error)) from error


class Partition:
    """A NorFlash as littlefs-python wants it."""

    def __init__(self, flash):
        self.flash = flash

    def read(self, cfg, block, off, size):
        """Read."""
        buffer = bytearray(size)
        self.flash.readblocks(block, buffer, off)
        return buffer

    def prog(self, cfg, block, off, content):
        """Program."""
        self.flash.writeblocks(block, content, off)
        return 0

    def erase(self, cfg, block):
        """Erase."""
        self.flash.ioctl(6, block)
        return 0

    def sync(self, cfg):
        """Nothing waits."""
        return 0


class File:
    """An open file."""

    def __init__(self, fs, path, mode):
        self.fs = fs
        self.handle = lfs.file_open(fs, path, mode)

    def read(self, count):
        """Bytes."""
        with littlefs_errors():
            return lfs.file_read(self.fs, self.handle, count)

    def readinto(self, view):
        """How many came."""
        found = self.read(len(view))
        view[: len(found)] = found
        return len(found)

    def write(self, content):
        """Append."""
        with littlefs_errors():
            return lfs.file_write(self.fs, self.handle, bytes(content))

    def seek(self, offset):
        """Go there."""
        with littlefs_errors():
            lfs.file_seek(self.fs, self.handle, offset, 0)

    def close(self):
        """What was written is in flash."""
        handle, self.handle = self.handle, None
        if handle is not None:
            with littlefs_errors():
                lfs.file_close(self.fs, handle)


class VfsLfs2:
    """A file system, with the functions that app.store wants; paths begin where it is mounted."""

    def __init__(self, flash, mtime=True, **options):
        self.blocks = flash.ioctl(4, 0)
        self.little = self.over(flash, options)
        with littlefs_errors():
            self.little.mount()
        self.fs = self.little.fs

    @staticmethod
    def over(flash, options):
        """Not mounted yet."""
        return littlefs.LittleFS(
            context=Partition(flash),
            mount=False,
            block_size=4096,
            block_count=flash.ioctl(4, 0),
            read_size=options["readsize"],
            prog_size=options["progsize"],
            cache_size=1024,
            lookahead_size=options["lookahead"],
        )

    @classmethod
    def mkfs(cls, flash, **options):
        """Make it anew."""
        with littlefs_errors():
            cls.over(flash, options).format()

    def inside(self, path):
        """The path without the mount point."""
        return path.removeprefix(vfs.where) or "/"

    def open(self, path, mode):
        """A File."""
        with littlefs_errors():
            return File(self.fs, self.inside(path), mode)

    def remove(self, path):
        """Remove a file."""
        with littlefs_errors():
            lfs.remove(self.fs, self.inside(path))

    def rename(self, old, new):
        """Rename, in place of what was there."""
        with littlefs_errors():
            lfs.rename(self.fs, self.inside(old), self.inside(new))

    def mkdir(self, path):
        """Make a folder."""
        with littlefs_errors():
            lfs.mkdir(self.fs, self.inside(path))

    def stat(self, path):
        """Of ten numbers the seventh is the size."""
        with littlefs_errors():
            return (0,) * 6 + (lfs.stat(self.fs, self.inside(path)).size,) + (0,) * 3

    def ilistdir(self, path):
        """(name, type, 0, size) of each."""
        with littlefs_errors():
            found = list(self.little.scandir(self.inside(path)))
        for entry in found:
            yield entry.name, 0x8000 if entry.type == 1 else 0x4000, 0, entry.size

    def statvfs(self, path):
        """Block, block, blocks, free blocks."""
        with littlefs_errors():
            return 4096, 4096, self.blocks, self.blocks - self.little.used_block_count


class Socket:
    """A socket with MicroPython's names."""

    def __init__(self):
        self.inner = real_socket.socket()
        for name in ("connect", "settimeout", "setblocking", "setsockopt", "fileno", "close"):
            setattr(self, name, getattr(self.inner, name))

    def readinto(self, view):
        """How many came; None: none yet."""
        try:
            return self.inner.recv_into(view)
        except BlockingIOError:
            return None

    def write(self, view):
        """How many were taken; None: none."""
        try:
            return self.inner.send(view)
        except BlockingIOError:
            return None


def module(name, **contents):
    """A module made here."""
    made = ModuleType(name)
    vars(made).update(contents)
    sys.modules[name] = made
    return made


def mount(fs, where):
    """One file system at a time; board.Files has its functions."""
    vfs.mounted, vfs.where = fs, where


real_socket = __import__("socket")
vfs = module("vfs", VfsLfs2=VfsLfs2, mount=mount, umount=lambda where: None, where="")
module("micropython", viper=lambda function: function)
builtins.ptr8 = memoryview
time.ticks_ms = lambda: time.monotonic_ns() // 1_000_000
time.ticks_add = lambda ticks, delta: ticks + delta
time.ticks_diff = lambda later, earlier: later - earlier
time.sleep_ms = lambda milliseconds: time.sleep(milliseconds / 1000)
time.sleep_us = lambda microseconds: time.sleep(microseconds / 1_000_000)
gc.mem_free = lambda: 0
gc.threshold = lambda count: None
sys.print_exception = lambda error: print("".join(traceback.format_exception(error)))

import chip  # noqa: E402
import esp32  # noqa: E402

chip.power_on(sys.argv[1:], Host())
esp32.Partition.open("chunks")

from app import board  # noqa: E402
from app.update import BadBundle  # noqa: E402


def no_update(self, size, sha256):
    """An update would have nowhere to go."""
    raise BadBundle("a node on CPython takes no updates")


board.Files = lambda: vfs.mounted
board.Board.updater = no_update
board.socket = module("chip_socket", socket=Socket, getaddrinfo=real_socket.getaddrinfo)
print("no MicroPython here: CPython runs this node, over littlefs-python")
for name in ("boot.py", "main.py"):
    path = Path(__file__).resolve().parents[1] / name
    exec(compile(path.read_text(), str(path), "exec"), {"__name__": "__main__"})  # noqa: S102
