"""Another application comes in: kept aside, checked, unpacked where it is not running.

bundle    "EDNA" | version u8 = 1 | files u8 | for each: name length u8 | name | size u32
          then the contents, one behind the other; a name is one file of the folder app
signature HMAC-SHA256(update key, "EDN1 app" | SHA256 of the bundle)
"""

import hashlib
import struct

from slots import FOLDERS

from app import wire
from app.store import WrongDigest, remove

MAGIC = b"EDNA\1"
BUNDLE = "/bundle"
SIZE_MAX = 65536
FILES_MAX = 32
NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789_."
PIECE = 512


class BadBundle(Exception):
    """It is signed, and no bundle all the same."""


def is_signed(key, sha256, signature):
    """Whether who has the update key made this bundle."""
    expected = wire.Hmac(key).digest(b"EDN1 app", sha256)
    return len(key) == 32 and wire.same(expected, signature)


class UpdateWriter:
    """A bundle on its way in; it begins from the start each time. files: as app.store wants them.

    Written, checked and taken like a chunk by app.store.Writer.
    """

    def __init__(self, files, slots, size, sha256, pace):
        self.files = files
        self.slots = slots
        self.size = size
        self.sha256 = sha256
        self.pace = pace
        self.position = 0
        self.summary = hashlib.sha256()
        self.file = files.open(BUNDLE, "wb")

    def write(self, content):
        """Append."""
        self.summary.update(content)
        self.file.write(content)
        self.position += len(content)

    def finish(self):
        """Unpack it and put it on trial; the digest. WrongDigest, BadBundle, OSError: nothing."""
        self.suspend()
        digest = self.summary.digest()
        if digest != self.sha256:
            self.abandon()
            raise WrongDigest
        application = self.slots.other()
        # What is unpacked into must not be what the next start would try.
        self.slots.begin_trial(0)
        self.unpack(FOLDERS[application])
        self.slots.begin_trial(application)
        remove(self.files, BUNDLE)
        return digest

    def suspend(self):
        """Stop."""
        if self.file:
            file, self.file = self.file, None
            file.close()

    def abandon(self):
        """Stop; nothing of it stays."""
        self.suspend()
        remove(self.files, BUNDLE)

    def unpack(self, folder):
        """Put the files into the folder, in place of those that were there."""
        empty(self.files, folder)
        with self.files.open(BUNDLE, "rb") as bundle:
            for name, size in self.contents(bundle):
                with self.files.open(folder + "/app/" + name, "wb") as file:
                    while size:
                        piece = bundle.read(min(PIECE, size))
                        if not piece:
                            raise BadBundle("short")
                        file.write(piece)
                        size -= len(piece)
                        self.pace()

    def contents(self, bundle):
        """(name, size) of each file; the bundle is read up to the first content."""
        if bundle.read(len(MAGIC)) != MAGIC:
            raise BadBundle("magic")
        found, total = [], bundle.tell() + 1
        for _ in range(bundle.read(1)[0]):
            name = bundle.read(bundle.read(1)[0]).decode()
            (size,) = struct.unpack(">I", bundle.read(4))
            if not name or name[0] == "." or any(one not in NAME_CHARACTERS for one in name):
                raise BadBundle("name")
            found.append((name, size))
            total += 5 + len(name) + size
        if total != self.size or not 0 < len(found) <= FILES_MAX:
            raise BadBundle("size")
        return found


def empty(files, folder):
    """Make the folder and the one in it, with no file there."""
    for path in (folder, folder + "/app"):
        try:
            files.mkdir(path)
        except OSError as error:
            if error.errno != 17:
                raise
    names = [entry[0] for entry in files.ilistdir(folder + "/app")]
    for name in names:
        files.remove(folder + "/app/" + name)
