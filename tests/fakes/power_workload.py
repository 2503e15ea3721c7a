"""Runs on MicroPython: writes and deletes chunks until the power fails, or tells what is there.

Arguments: FIRMWARE work|check FOLDER name=number ... (as firmware/emulated/chip.py has them). Says
"begin P ID", then "P ID" when it is done; D for a deletion; "operations N" at the end. check says
"chunk ID good|bad", and "writable".
"""

import binascii
import hashlib
import sys

firmware, mode = sys.argv[1:3]
sys.path.insert(0, firmware)
sys.path.insert(0, firmware + "/emulated")

import chip  # noqa: E402
import flash  # noqa: E402
import vfs  # noqa: E402
from app.store import Store  # noqa: E402

SIZES = (16328, 100, 8148, 4096, 12000, 1)
BASE = 6


class Files:
    """As app.board has them."""

    def __init__(self):
        import os

        self.open = open
        self.remove, self.rename, self.mkdir = os.remove, os.rename, os.mkdir
        self.stat, self.ilistdir, self.statvfs = os.stat, os.ilistdir, os.statvfs


def content_of(number):
    """(id, content)."""
    seed = hashlib.sha256(str(number).encode()).digest()
    size = SIZES[number % len(SIZES)]
    return seed[:16], (seed * (size // 32 + 1))[:size]


def put(store, number, quiet=False):
    """Write a chunk in pieces of 4 KiB, as the link does."""
    identity, content = content_of(number)
    name = binascii.hexlify(identity).decode()
    if not quiet:
        print("begin P", name)
    writer = store.begin(identity, len(content), hashlib.sha256(content).digest())
    for start in range(0, len(content), 4096):
        writer.write(content[start : start + 4096])
    writer.finish()
    if not quiet:
        print("P", name)


def delete(store, number):
    """Delete a chunk."""
    name = binascii.hexlify(content_of(number)[0]).decode()
    print("begin D", name)
    store.delete(content_of(number)[0])
    print("D", name)


def mount(device):
    """The chunks; a flash that was never used is formatted."""
    partition = flash.NorFlash(device, "chunks", device.values["chunks_kb"] * 1024)
    options = {"progsize": 256, "readsize": 256, "lookahead": 64}
    if mode == "make":
        vfs.VfsLfs2.mkfs(partition, **options)
    vfs.mount(vfs.VfsLfs2(partition, mtime=False, **options), "/chunks")
    return Store(Files(), "/chunks", int, 2)


device = chip.power_on(sys.argv[3:], vfs.VfsPosix())
store = mount(device)
if mode == "make":
    for number in range(BASE):
        put(store, number)
elif mode == "work":
    for number in range(BASE, 2 * BASE):
        put(store, number)
        delete(store, number - BASE)
    put(store, 3 * BASE)
else:
    for identity, _ in store.items(b"", 1000):
        size, expected, digest = store.digest(identity, "sha256")
        name = binascii.hexlify(identity).decode()
        print("chunk", name, "good" if expected == digest else "bad")
    print("counted", store.chunks)
    names = [entry[0] for folder in store.directories for entry in store.files.ilistdir(folder)]
    print("junk", sum(len(name) != 32 for name in names))
    put(store, 1000, quiet=True)
    print("writable")
print("operations", device.operations)
