"""Stands in for MicroPython's module of this name: partitions and NVS, both in files."""

import binascii
import json

import chip
import flash

NOT_FOUND = -0x1102


class Partition:
    """Finds the flash of the emulated device by name."""

    TYPE_APP, TYPE_DATA = 0, 1

    @staticmethod
    def find(type=0, subtype=0xFF, label=None, block_size=4096):  # noqa: A002
        """A list of the one partition of this name, or of none."""
        found = chip.current.partitions
        return [found[label]] if type == Partition.TYPE_DATA and label in found else []

    @staticmethod
    def open(label):
        """Put a partition into the chip."""
        device = chip.current
        size = device.values[label + "_kb"] * 1024
        device.partitions[label] = flash.NorFlash(device, label, size)
        return device.partitions[label]


class NVS:
    """Settings of one namespace; a commit is there whole or not at all."""

    def __init__(self, namespace):
        self.namespace = namespace
        self.path = chip.current.folder + "/nvs.json"
        with chip.current.host.open(self.path, "r") as file:
            self.values = json.load(file).get(namespace, {})

    def get(self, key, kind):
        """A value of the right kind; OSError if there is none."""
        if not isinstance(self.values.get(key), kind):
            raise OSError(NOT_FOUND)
        return self.values[key]

    def get_i32(self, key):
        """A number."""
        return self.get(key, int)

    def set_i32(self, key, value):
        """Set a number, to be committed."""
        if not -(2**31) <= value < 2**31:
            raise OSError(22)
        self.put(key, value)

    def get_blob(self, key, buffer):
        """Length of the bytes that were put into the buffer."""
        value = binascii.unhexlify(self.get(key, str))
        if len(value) > len(buffer):
            raise OSError(22)
        buffer[: len(value)] = value
        return len(value)

    def set_blob(self, key, value):
        """Set bytes, to be committed."""
        self.put(key, binascii.hexlify(value).decode())

    def put(self, key, value):
        """Keys have at most 15 characters, as on the chip."""
        if len(key) > 15:
            raise OSError(22)
        self.values[key] = value

    def erase_key(self, key):
        """Forget a key."""
        self.get(key, (int, str))
        del self.values[key]

    def commit(self):
        """Keep what was set."""
        device = chip.current
        cut = device.operation()
        if cut and device.values["torn"] < 100:
            device.fail()
        device.busy(2 * flash.PAGE_US)
        with device.host.open(self.path, "r") as file:
            everything = json.load(file)
        everything[self.namespace] = self.values
        with device.host.open(self.path + ".new", "w") as file:
            json.dump(everything, file)
        device.host.rename(self.path + ".new", self.path)
        if cut:
            device.fail()
