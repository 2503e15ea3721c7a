"""The chip around the node: flash, network, watchdog, sleep. What runs elsewhere replaces this."""

import os
import socket
import time

import esp32
import machine
import network
import vfs
from slots import Slots

from app.link import Connection
from app.settings import Settings
from app.store import Store
from app.update import UpdateWriter

FIRMWARE = "edn 1.0.0"
ROOT = "/chunks"
# More folders than these wear evenly in a large flash, and cost 2 blocks each.
FOLDERS, FOLDERS_LARGE, LARGE_BLOCKS = 8, 16, 1024
IPPROTO_TCP, TCP_NODELAY = 6, 1
CONNECT_S = 10


class Files:
    """The file functions of MicroPython, as Store wants them."""

    def __init__(self):
        self.open = open
        self.remove = os.remove
        self.rename = os.rename
        self.mkdir = os.mkdir
        self.stat = os.stat
        self.ilistdir = os.ilistdir
        self.statvfs = os.statvfs


class Board:
    """An ESP32 under MicroPython."""

    firmware = FIRMWARE

    def __init__(self):
        self.started = time.ticks_ms()
        self.settings = Settings(esp32.NVS("edn"))
        self.watchdog = machine.WDT(timeout=self.settings.watchdog_ms)
        self.slots = Slots(self.settings.nvs)
        self.on_trial = self.slots.trial != 0
        self.seconds = 0
        self.store = None
        self.flash = self.partition()
        self.mount()

    def partition(self):
        """The flash for chunks: a partition of its own, so that it never meets the program."""
        found = esp32.Partition.find(esp32.Partition.TYPE_DATA, label="chunks")
        if not found:
            raise RuntimeError("no partition named chunks: flash this node again")
        return found[0]

    def mount(self):
        """Open the store. Only a blank flash is formatted, or one whose formatting was begun."""
        try:
            self.attach()
        except OSError as error:
            if self.settings.number("formatting", 0) or self.blank():
                self.format()
            else:
                print("node: flash is neither blank nor ours:", error)

    def attach(self):
        """Mount the file system and count what is there."""
        vfs.mount(vfs.VfsLfs2(self.flash, mtime=False, **self.littlefs()), ROOT)
        large = self.flash.ioctl(4, 0) > LARGE_BLOCKS
        self.store = Store(Files(), ROOT, self.feed, FOLDERS_LARGE if large else FOLDERS)

    def littlefs(self):
        """Programs of 256 bytes: 20 for a chunk of 16 KiB, not 133. A bit of lookahead a block."""
        lookahead = min(512, max(64, self.flash.ioctl(4, 0) // 64 * 8))
        return {"progsize": 256, "readsize": 256, "lookahead": lookahead}

    def blank(self):
        """Whether the two blocks that say what a flash holds have never been written."""
        buffer = bytearray(256)
        for block in (0, 1):
            for offset in range(0, 4096, len(buffer)):
                self.flash.readblocks(block, buffer, offset)
                if any(byte != 0xFF for byte in buffer):
                    return False
        return True

    def format(self):
        """Make the file system anew. A power cut in the middle is made good at the next start."""
        self.settings.keep("formatting", 1)
        if self.store:
            self.store = None
            vfs.umount(ROOT)
        vfs.VfsLfs2.mkfs(self.flash, **self.littlefs())
        self.attach()
        self.settings.keep("formatting", 0)

    def feed(self):
        """Tell the watchdog that all is well."""
        self.watchdog.feed()

    def uptime(self):
        """Seconds since the start; to be asked at least once in six days, when ticks go round."""
        now = time.ticks_ms()
        seconds = time.ticks_diff(now, self.started) // 1000
        self.started = time.ticks_add(self.started, seconds * 1000)
        self.seconds += seconds
        return self.seconds

    def join(self):
        """Be in the Wi-Fi network: at once if so already, else tried with growing pauses."""
        station = network.WLAN(network.STA_IF)
        station.active(True)
        delay = self.settings.retry_ms
        while not station.isconnected():
            station.connect(self.settings.network, self.settings.password or None)
            deadline = time.ticks_add(time.ticks_ms(), self.settings.wifi_ms)
            while not station.isconnected() and time.ticks_diff(deadline, time.ticks_ms()) > 0:
                self.rest(200)
            if not station.isconnected():
                print("node: no Wi-Fi, status", station.status())
                station.disconnect()
                self.rest(delay)
                delay = min(2 * delay, 60000)

    def dial(self, host, port):
        """A Connection to the hub. OSError."""
        self.feed()
        link = socket.socket()
        try:
            address = socket.getaddrinfo(host, port)[0][-1]
            link.settimeout(CONNECT_S)
            link.connect(address)
        except OSError:
            link.close()
            raise
        try:
            link.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        except OSError:
            pass  # slower, where the chip's MicroPython does not know it
        self.feed()
        return Connection(link)

    def rest(self, delay_ms):
        """Sleep, and feed the watchdog."""
        while delay_ms > 0:
            self.feed()
            time.sleep_ms(min(delay_ms, 1000))
            delay_ms -= 1000
        self.feed()

    def updater(self, size, sha256):
        """Takes the bytes of another application."""
        return UpdateWriter(Files(), self.slots, size, sha256, self.feed)

    def settle(self, writer):
        """Nobody waits: count what is free, if that is an estimate; see how time goes."""
        self.uptime()
        if self.store and self.store.estimated and not writer:
            self.store.recount()

    def welcomed(self):
        """A hub took this node: the application works, but not one that came since the start."""
        if self.on_trial or not self.slots.trial:
            self.slots.confirm()
        self.on_trial = False

    def reset(self):
        """Begin anew."""
        machine.reset()
