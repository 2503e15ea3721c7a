"""What the stand-ins of one emulated device share: its folder, its flash, its power supply.

Files of the device's folder: chunks.img and system.img (the two partitions as they lie in flash),
*.wear (erases of each block, u32 little-endian), nvs.json, watchdog (touched when it is fed).
"""

import os
import sys
import time

KINDS = {
    "chunks_kb": 2048,
    "system_kb": 256,
    "cut_at": 0,
    "torn": 50,
    "slow": 0,
    "cause": 1,
    "wifi_failures": 0,
}
NOISE = 101
"""`torn` above 100: of what the operation would have changed each bit is as chance will have it."""
RESET_STATUS = 120


class Chip:
    """The arguments FOLDER name=number ... of the command line, and a count of flash operations.

    cut_at: the operation (program, erase, NVS commit; from 1) in which the power fails; torn: how
    much of it is done, in percent; slow: flash takes the time that flash takes. host: opens and
    renames files of the host, whose file system is not mounted.
    """

    def __init__(self, arguments, host):
        self.folder = arguments[0]
        self.host = host
        self.values = dict(KINDS)
        for argument in arguments[1:]:
            name, value = argument.split("=")
            if name not in KINDS:
                raise ValueError("no such setting: " + name)
            self.values[name] = int(value)
        self.operations = 0
        self.off = False
        self.partitions = {}
        self.parent = self.starter()

    def operation(self):
        """Count an operation; True if the power fails in this one."""
        if self.off:
            raise OSError(5)
        self.operations += 1
        return self.operations == self.values["cut_at"]

    def busy(self, microseconds):
        """A flash operation takes its time."""
        if self.values["slow"]:
            time.sleep_us(microseconds)

    def starter(self):
        """Number of the process that started this one; -1 where there is no /proc."""
        try:
            with self.host.open("/proc/self/stat", "r") as file:
                return int(file.read().rsplit(")", 1)[1].split()[1])
        except OSError:
            return -1

    def end_with_starter(self):
        """Who looked after this device is gone: so is its power."""
        if self.starter() != self.parent:
            self.off = True
            sys.exit(0)

    def fail(self):
        """The power is gone: this very process ends, and nothing is closed or written."""
        print("power cut in operation", self.operations)
        os.system("kill -9 $PPID")  # noqa: S605, S607 - MicroPython has no os.kill
        while True:
            time.sleep(1)

    def reset(self):
        """The chip begins anew: whoever started this process does so again."""
        self.off = True
        sys.exit(RESET_STATUS)


current = None


def power_on(arguments, host):
    """Make the chip of this process."""
    global current
    current = Chip(arguments, host)
    return current
