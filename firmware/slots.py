"""Which application starts: the one that came with the chip, or one of two that came later.

All of it is one number in NVS, so a change is there whole or not at all:
good u4 | trial u4 << 4 | tries u4 << 8 | crashes u4 << 12; an application is 0 (as flashed), 1, 2.
This file is never updated: it has to work when an update does not.
"""

import machine

FOLDERS = ("", "/a", "/b")
TRIES = 3
CRASHES = 8
WATCHDOG_MS = 60000
TRIAL_MS = 300000


class Slots:
    """What NVS says. nvs: an esp32.NVS."""

    def __init__(self, nvs):
        self.nvs = nvs
        number = self.number("slots", 0)
        self.good, self.trial = number & 15, number >> 4 & 15
        self.tries, self.crashes = number >> 8 & 15, number >> 12 & 15

    def number(self, key, default):
        """A number of the NVS."""
        try:
            return self.nvs.get_i32(key)
        except OSError:
            return default

    def keep(self):
        """Write it down; it is in flash on return."""
        number = self.good | self.trial << 4 | self.tries << 8 | self.crashes << 12
        self.nvs.set_i32("slots", number)
        self.nvs.commit()

    def choose(self):
        """The folder to start from. A trial ends after TRIES starts in which no hub said READY."""
        if self.trial and self.tries < TRIES:
            self.tries += 1
            self.keep()
            return FOLDERS[self.trial % len(FOLDERS)]
        if self.trial:
            print("slots: the update does not work, back to what did")
            self.trial = self.tries = self.crashes = 0
            self.keep()
        if self.good and self.crashes >= CRASHES:
            print("slots: the application crashes, back to the one that was flashed")
            self.good = self.crashes = 0
            self.keep()
        return FOLDERS[self.good % len(FOLDERS)]

    def guard(self):
        """Whatever starts now may hang, or wait for ever while it is on trial."""
        machine.WDT(timeout=self.number("watchdog_ms", WATCHDOG_MS))
        if self.trial:
            timer = machine.Timer(0)
            period = self.number("trial_ms", TRIAL_MS)
            timer.init(
                mode=machine.Timer.ONE_SHOT, period=period, callback=lambda _: machine.reset()
            )

    def confirm(self):
        """A hub said READY: what runs is good."""
        if self.trial:
            machine.Timer(0).deinit()
            self.good, self.trial, self.tries = self.trial, 0, 0
        elif not self.crashes:
            return
        self.crashes = 0
        self.keep()

    def crashed(self):
        """The application ended with an error."""
        if self.good and not self.trial and self.crashes < CRASHES:
            self.crashes += 1
            self.keep()

    def other(self):
        """The application that an update replaces."""
        return 2 if self.good == 1 else 1

    def begin_trial(self, application):
        """Start this one from now on, TRIES times, until it is confirmed; 0: none."""
        self.trial, self.tries = application, 0
        self.keep()
