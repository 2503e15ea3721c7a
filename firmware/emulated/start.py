"""Power on: runs a device on MicroPython's unix port. Arguments: FOLDER name=number ...

The device's own files lie in the emulated flash as well: boot.py and main.py are read from there.
"""

import gc
import sys

import chip
import vfs


def begin(arguments):
    """Mount the device's file system in place of the host's."""
    chip.power_on(arguments, vfs.VfsPosix())
    for name in ("esp32", "machine", "network"):
        sys.modules.pop(name, None)
        sys.modules[name] = __import__(name)
    esp32 = sys.modules["esp32"]
    esp32.Partition.open("chunks")
    system = esp32.Partition.open("system")
    vfs.umount("/")
    vfs.mount(vfs.VfsLfs2(system, progsize=256, readsize=256, lookahead=64), "/")
    sys.path[:] = ["", "/lib"]


def run(path):
    """Run a file as the chip does."""
    with open(path) as file:
        source = file.read()
    program = compile(source, path, "exec")
    del source
    gc.collect()
    exec(program, {"__name__": "__main__"})  # noqa: S102


gc.threshold(4096)
begin(sys.argv[1:])
run("/boot.py")
run("/main.py")
