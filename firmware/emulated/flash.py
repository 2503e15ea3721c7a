"""NOR flash in a file: erasing sets a block to 0xFF, programming only clears bits.

Has the block functions that esp32.Partition has. What a chip could not do is an error here.
"""

import os

import micropython

BLOCK = 4096
PAGE = 256
ERASE_US = 45000
PAGE_US = 700


@micropython.viper
def clears_only(new: ptr8, old: ptr8, length: int) -> bool:  # noqa: F821
    """Whether programming `new` over `old` sets no bit."""
    for position in range(length):  # noqa: SIM110
        if new[position] & (old[position] ^ 255):
            return False
    return True


class NorFlash:
    """One partition. chip: counts operations and cuts the power in one of them."""

    def __init__(self, chip, name, size):
        self.chip = chip
        self.size = size
        self.image = chip.host.open("%s/%s.img" % (chip.folder, name), "r+b")
        if self.image.seek(0, 2) != size:
            raise OSError(22)
        self.wear = chip.host.open("%s/%s.wear" % (chip.folder, name), "r+b")
        self.erased = b"\xff" * 512
        self.old = memoryview(bytearray(512))

    def readblocks(self, block, buffer, offset=0):
        """Read."""
        self.image.seek(block * BLOCK + offset)
        if self.image.readinto(buffer) != len(buffer):
            raise OSError(5)

    def writeblocks(self, block, buffer, offset=None):
        """Program; without an offset the block is erased before."""
        if offset is None:
            self.erase(block)
            offset = 0
        place, length = block * BLOCK + offset, len(buffer)
        view = memoryview(buffer)
        self.image.seek(place)
        for start in range(0, length, len(self.old)):
            count = min(len(self.old), length - start)
            self.image.readinto(self.old[:count])
            if not clears_only(view[start : start + count], self.old, count):
                print("flash: programmed without an erase, block", block, "offset", offset)
                raise OSError(5)
        cut = self.chip.operation()
        if cut:
            self.tear(place, view)
        self.chip.busy(PAGE_US * ((place + length - 1) // PAGE - place // PAGE + 1))
        self.image.seek(place)
        self.image.write(buffer)

    def tear(self, place, view):
        """Program some of it, then the power is gone."""
        torn, length = self.chip.values["torn"], len(view)
        if torn > 100:
            old = bytearray(length)
            self.image.seek(place)
            self.image.readinto(old)
            noise = os.urandom(length)
            view = bytes(old[at] & (view[at] | noise[at]) for at in range(length))
            torn = 100
        self.image.seek(place)
        self.image.write(view[: length * torn // 100])
        self.chip.fail()

    def erase(self, block):
        """Erase a block and count its wear."""
        self.wear.seek(4 * block)
        count = int.from_bytes(self.wear.read(4), "little") + 1
        self.wear.seek(4 * block)
        self.wear.write(count.to_bytes(4, "little"))
        cut, torn = self.chip.operation(), self.chip.values["torn"]
        self.chip.busy(ERASE_US)
        self.image.seek(block * BLOCK)
        pieces = BLOCK // len(self.erased)
        for piece in range(pieces):
            if cut and torn > 100:
                self.image.write(os.urandom(len(self.erased)))
            elif not cut or piece < pieces * torn // 100:
                self.image.write(self.erased)
        if cut:
            self.chip.fail()

    def ioctl(self, operation, argument):
        """Block count and size, erase; the rest is nothing here."""
        if operation == 4:
            return self.size // BLOCK
        if operation == 5:
            return BLOCK
        if operation == 6:
            self.erase(argument)
        return 0
