"""Stands in for MicroPython's module of this name: reset and watchdog."""

import time

import chip

PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5


def reset():
    """Begin anew."""
    chip.current.reset()


def reset_cause():
    """Why this start was."""
    return chip.current.values["cause"]


class Timer:
    """Only what ends in a reset: a file says when, who looks after the process does it."""

    ONE_SHOT = 0

    def __init__(self, id):  # noqa: A002
        self.path = chip.current.folder + "/timer"

    def init(self, mode, period, callback):
        """Begin anew in so many milliseconds."""
        with chip.current.host.open(self.path, "w") as file:
            file.write("%d\n" % period)

    def deinit(self):
        """Never mind."""
        with chip.current.host.open(self.path, "w") as file:
            file.write("0\n")


class WDT:
    """Touches a file when it is fed; who looks after the process ends it if that stops."""

    def __init__(self, id=0, timeout=5000):  # noqa: A002
        self.file = chip.current.host.open(chip.current.folder + "/watchdog", "w")
        self.timeout = timeout
        self.fed = time.ticks_add(time.ticks_ms(), -1000)
        self.feed()

    def feed(self):
        """All is well."""
        now = time.ticks_ms()
        if time.ticks_diff(now, self.fed) >= 200:
            chip.current.end_with_starter()
            self.fed = now
            self.file.seek(0)
            self.file.write("%d\n" % self.timeout)
            self.file.flush()
