"""Chunks in a LittleFS, one file each: there whole, or not at all.

file      magic "CK1\\0" | size u32 | sha256 32 | content
name      DIR/HEX, DIR by the top bits of the id: several directories share the wear of names
partial   DIR/tHEX until it is whole, closed and renamed; at a start partial files are junk

The file functions come as an object (open, remove, rename, mkdir, stat, ilistdir, statvfs as
MicroPython has them), so that the same file runs over any LittleFS.
"""

import binascii
import hashlib
import struct

MAGIC = b"CK1\0"
HEADER = ">4sI32s"
HEADER_SIZE = 40
ID_SIZE = 16
SIZE_MAX = 65392
RESERVE = 4
ENOENT, EEXIST, ENOSPC = 2, 17, 28


class ChunkCorrupt(Exception):
    """What lies there is not what was written."""


class WrongDigest(Exception):
    """What came is not what was announced."""


class Store:
    """The chunks under a folder. pace(): called between steps of whatever takes long."""

    def __init__(self, files, root, pace, directories=8):
        self.files = files
        self.root = root
        self.pace = pace
        self.shift = {1: 4, 2: 3, 4: 2, 8: 1, 16: 0}[directories]
        self.directories = ["%s/%x" % (root, number) for number in range(directories)]
        self.buffer = memoryview(bytearray(1024))
        self.partial = ""
        self.writes = 0
        for directory in self.directories:
            try:
                files.mkdir(directory)
            except OSError as error:
                if error.errno != EEXIST:
                    raise
        self.sweep()
        self.recount()

    def recount(self):
        """Ask the file system what is free. It walks all of it: never while somebody waits."""
        status = self.files.statvfs(self.root)
        self.block = status[0]
        self.blocks = status[2]
        self.free = status[3]
        self.estimated = False

    def sweep(self):
        """Remove what never became a chunk, and count the chunks."""
        self.chunks = 0
        for directory in self.directories:
            junk = []
            for entry in self.files.ilistdir(directory):
                if entry[0].startswith("t"):
                    junk.append(directory + "/" + entry[0])
                elif identity(entry[0]):
                    self.chunks += 1
            for path in junk:
                self.files.remove(path)
            self.pace()

    def blocks_of(self, size):
        """Blocks of a chunk's file: block i > 0 of a LittleFS file loses 4 * (ctz(i) + 1) bytes."""
        size += HEADER_SIZE
        blocks, room = 1, self.block
        while room < size:
            pointers, number = 1, blocks
            while not number & 1:
                number >>= 1
                pointers += 1
            room += self.block - 4 * pointers
            blocks += 1
        return blocks

    def has_room(self, size):
        """Whether a chunk fits; the reserve stays free, LittleFS needs it to move names.

        If it does not, what an attempt that was cut off has left goes. Not while one is going on.
        """
        wanted = self.blocks_of(size) + RESERVE
        if wanted > self.free and self.partial:
            self.forget_partial()
        if wanted > self.free and self.estimated:
            self.recount()
        return wanted <= self.free

    def room(self):
        """Blocks that chunks may still take."""
        return max(0, self.free - RESERVE)

    def path(self, chunk):
        """Where a chunk is, or would be."""
        directory = self.directories[(chunk[0] >> 4) >> self.shift]
        return directory + "/" + binascii.hexlify(chunk).decode()

    def open(self, chunk):
        """(file behind its header, size, sha256). OSError ENOENT, ChunkCorrupt."""
        path = self.path(chunk)
        length = self.files.stat(path)[6]
        file = self.files.open(path, "rb")
        try:
            header = file.read(HEADER_SIZE)
        except OSError:
            file.close()  # one that is collected is as bad as a listing, see items
            raise
        if len(header) == HEADER_SIZE:
            magic, size, sha256 = struct.unpack(HEADER, header)
            if magic == MAGIC and size == length - HEADER_SIZE:
                return file, size, sha256
        file.close()
        raise ChunkCorrupt("header")

    def digest(self, chunk, algorithm, nonce=b""):
        """(size, sha256 that was announced, digest of nonce and content), all of it read now."""
        file, size, sha256 = self.open(chunk)
        try:
            summary = getattr(hashlib, algorithm)(nonce)
            left = size
            while left > 0:
                count = file.readinto(self.buffer[: min(left, len(self.buffer))])
                if not count:
                    raise ChunkCorrupt("short")
                summary.update(self.buffer[:count])
                left -= count
                self.pace()
        finally:
            file.close()
        return size, sha256, summary.digest()

    def holds(self, chunk, size, sha256):
        """True: this very content is there. False: nothing is, or it is damaged.

        None: the id belongs to other content.
        """
        try:
            found = self.digest(chunk, "sha256")
        except (ChunkCorrupt, OSError):
            return False
        if found[1] != found[2]:
            return False
        return True if found[:2] == (size, sha256) else None

    def begin(self, chunk, size, sha256):
        """A Writer for a chunk, behind what an attempt that was cut off has left of it."""
        path = self.path(chunk)
        partial = path[: -2 * ID_SIZE] + "t" + path[-2 * ID_SIZE :]
        if self.partial and self.partial != partial:
            self.forget_partial()
        self.partial = partial
        return Writer(self, path, size, sha256)

    def forget_partial(self):
        """Remove what an attempt that was cut off has left."""
        path, self.partial = self.partial, ""
        self.estimated = True
        remove(self.files, path)

    def delete(self, chunk):
        """Whether it was there."""
        path = self.path(chunk)
        try:
            size = self.files.stat(path)[6] - HEADER_SIZE
            self.files.remove(path)
        except OSError as error:
            if error.errno == ENOENT:
                return False
            raise
        self.chunks -= 1
        self.free = min(self.blocks, self.free + self.blocks_of(max(0, size)))
        self.estimated = True
        return True

    def items(self, after, limit):
        """Yields at most `limit` pairs (id, size), ids above `after` (b"": all), ascending.

        One by one: a list of a page would not fit into the heap beside everything else. Take all
        of them.
        """
        for directory in self.directories:
            # LittleFS lists names in order, and so do the directories. A listing that is not at
            # its end is one of LittleFS's open ones until it is collected, and that may come in
            # the middle of a change, which then goes on with memory that is somebody else's.
            for entry in self.files.ilistdir(directory):
                chunk = limit and identity(entry[0])
                if chunk and chunk > after:
                    yield chunk, max(0, entry[3] - HEADER_SIZE)
                    limit -= 1
            if not limit:
                return
            self.pace()

    def wipe(self):
        """Remove all chunks."""
        self.partial = ""
        for directory in self.directories:
            while True:
                names = []
                for entry in self.files.ilistdir(directory):  # to its end, see items
                    if len(names) < 16:
                        names.append(entry[0])
                if not names:
                    break
                for name in names:
                    self.files.remove(directory + "/" + name)
                    self.pace()
        self.chunks = 0
        self.recount()


class Writer:
    """A chunk on its way in. `position`: bytes of content that are there."""

    def __init__(self, store, path, size, sha256):
        self.store = store
        self.path = path
        self.size = size
        self.sha256 = sha256
        self.summary = hashlib.sha256()
        self.position = 0
        self.header = struct.pack(HEADER, MAGIC, size, sha256)
        if not self.resume():
            self.file = store.files.open(store.partial, "wb")
            try:
                self.file.write(self.header)
            except OSError:
                self.abandon()
                raise

    def resume(self):
        """Go on behind what is there, if it is of this chunk; it is read, for the digest."""
        store = self.store
        try:
            file = store.files.open(store.partial, "rb")
        except OSError:
            return False
        try:
            if file.read(HEADER_SIZE) != self.header:
                return False
            while True:
                count = file.readinto(store.buffer)
                if not count:
                    break
                self.summary.update(store.buffer[:count])
                self.position += count
                store.pace()
        finally:
            file.close()
        if self.position >= self.size:
            self.summary, self.position = hashlib.sha256(), 0
            return False
        self.file = store.files.open(store.partial, "ab")
        return True

    def write(self, content):
        """Append; content: bytes-like, not beyond the announced size."""
        self.summary.update(content)
        self.file.write(content)
        self.position += len(content)

    def finish(self):
        """Make it a chunk; the digest of what came. WrongDigest, and it is gone."""
        store = self.store
        self.suspend()
        digest = self.summary.digest()
        if digest != self.sha256:
            store.forget_partial()
            raise WrongDigest
        known = exists(store.files, self.path)
        store.files.rename(store.partial, self.path)
        store.partial = ""
        store.writes += 1
        store.free -= store.blocks_of(self.size)
        store.estimated = True
        if not known:
            store.chunks += 1
        return digest

    def suspend(self):
        """Stop; what is there stays for another attempt, until the next start."""
        if self.file:
            file, self.file = self.file, None
            file.close()
            self.store.estimated = True

    def abandon(self):
        """Stop; nothing of it stays."""
        try:
            self.suspend()
        except OSError:
            pass
        self.store.forget_partial()


def identity(name):
    """The id that a file name stands for, or None."""
    if len(name) != 2 * ID_SIZE:
        return None
    try:
        return binascii.unhexlify(name)
    except ValueError:
        return None


def exists(files, path):
    """Whether there is something by this name."""
    try:
        files.stat(path)
    except OSError:
        return False
    return True


def remove(files, path):
    """Remove a file that may be gone already."""
    try:
        files.remove(path)
    except OSError as error:
        if error.errno != ENOENT:
            raise
