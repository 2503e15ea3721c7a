"""Puts files into a blank system.img, as a flashing tool does. Arguments: DEVICE SOURCE."""

import os
import sys

import chip
import flash
import vfs


def copy(source, target):
    """A folder with all that is in it."""
    for entry in os.ilistdir(source):
        name, kind = entry[0], entry[1]
        if kind == 0x4000:
            os.mkdir(target + "/" + name)
            copy(source + "/" + name, target + "/" + name)
        else:
            with open(source + "/" + name, "rb") as read, open(target + "/" + name, "wb") as write:
                write.write(read.read())


device = chip.power_on(sys.argv[1:2], vfs.VfsPosix())
partition = flash.NorFlash(device, "system", device.values["system_kb"] * 1024)
vfs.VfsLfs2.mkfs(partition, progsize=256, readsize=256, lookahead=64)
vfs.mount(vfs.VfsLfs2(partition, progsize=256, readsize=256, lookahead=64), "/flash")
copy(sys.argv[2], "/flash")
