"""The count of a home: what its files have together, known at each moment and never walked for.

Each open file has a node, shared by all its handles. Its `size` is what the home is charged for it:
never less than what the disk has, and the same as soon as no write is on its way. What grows is
charged first and done then; what shrinks is done first. So the limit holds among any threads.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable

from zerostor.core.homes import HomeUsage
from zerostor.core.limits import HOME_ENTRIES_MAX
from zerostor.homes.rooted import Descriptor
from zerostor.homes.tally import Count, Tally


class Node:
    """An open file. inode: its number. path: where it lies. gone: it has no name any more.

    file: one that is open, to ask what it is now. told: called when nobody writes any more.
    """

    __slots__ = (
        "file", "gone", "handles", "inode", "moving", "path", "size", "told", "unsure", "writers",
    )

    def __init__(self, inode: int, path: bytes, size: int, file: Descriptor) -> None:
        self.inode = inode
        self.path = path
        self.size = size
        self.file: Descriptor | None = file
        self.handles = 0
        self.writers = 0
        self.moving = 0
        self.unsure = False
        self.gone = False
        self.told: Callable[[], None] | None = None


class Ledger:
    """What a home holds, against its limit. From any thread; nothing here waits for a disk.

    Until `finish_count` nothing may grow: OSError EAGAIN.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.changes = 0
        self._closings = 0
        self.nodes: dict[int, Node] = {}
        self._used = 0
        self._aside = 0
        self._files = 0
        self._folders = 0
        self._counted = False
        self._count: Count | None = None
        self._lock = threading.Lock()

    @property
    def usage(self) -> HomeUsage:
        """Bytes and files now. A file that was removed while it is open counts until it is closed:
        its bytes are on the disk till then, and could grow."""
        return HomeUsage(self._used, self.limit, self._files)

    @property
    def entries(self) -> int:
        """Files and folders now."""
        return self._files + self._folders

    @property
    def counted(self) -> bool:
        """Whether a walk has ended."""
        return self._counted

    @property
    def held(self) -> int:
        """Bytes of files that are open."""
        with self._lock:
            return sum(node.size for node in self.nodes.values())

    @property
    def version(self) -> int:
        """Grows with each change, and with each file that is closed."""
        return self.changes + self._closings

    def touch(self) -> None:
        """Something changed that has no size."""
        with self._lock:
            self.changes += 1

    def set_aside(self, size: int) -> int:
        """As HomeFolder.set_aside."""
        with self._lock:
            self._aside = max(0, min(size, self.limit - self._used))
            return self._aside

    def missing(self, wanted: int) -> int:
        """Bytes that would have to go before `wanted` more fit."""
        with self._lock:
            return self._missing(wanted)

    def _missing(self, wanted: int) -> int:
        return self._used + self._aside + wanted - self.limit

    # One write, from any thread: begin, the call itself, end.

    def begin(self, node: Node, start: int | None, size: int) -> None:
        """Bytes are about to be written from `start`, or at the end of the file if that is None.

        OSError EDQUOT if they do not fit, EBADF if no handle is left.
        """
        with self._lock:
            if not node.handles:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            growth = size if start is None else start + size - node.size
            if growth > 0 and (self._missing(growth) > 0 or not self._counted):
                raise self._refusal(growth)
            if self._count is not None:
                self._count_by_hand(node)
            if growth > 0:
                self._resize(node, node.size + growth)
            node.moving += 1
            self.changes += 1

    def end(self, node: Node, fd: int) -> None:
        """It did, or failed; then `unsure` is set, and the file itself is asked."""
        with self._lock:
            node.moving -= 1
            if node.unsure and not node.moving:
                node.unsure = False
                self._resize(node, os.fstat(fd).st_size)
            self._let_go(node)

    def _refusal(self, growth: int = 0) -> OSError:
        if not self._counted:
            return OSError(errno.EAGAIN, "the home is being counted, try again in a moment")
        return OSError(
            errno.EDQUOT,
            f"the home is full: {self._used:,} of {self.limit:,} bytes are used, and {growth:,}"
            " more do not fit",
        )

    def _count_by_hand(self, node: Node) -> None:
        """From here on the walk does not count it: it may change while the walk looks."""
        assert self._count is not None
        if not node.gone:
            self._count.files.change(node.inode, node.size, node.size)
            # Somebody else may have changed it before, and then we know a size that never was.
            node.unsure = True

    def _resize(self, node: Node, size: int) -> None:
        self._used += size - node.size
        if self._count is not None and not node.gone:
            self._count.files.change(node.inode, node.size, size)
        node.size = size

    # Handles.

    def opened(self, file: Descriptor, path: bytes, *, writing: bool, created: bool) -> Node:
        """A handle is there. created: `add_file` made room for it."""
        with self._lock:
            found = os.fstat(file.fd)
            node = self.nodes.get(found.st_ino)
            if node is None:
                node = self.nodes[found.st_ino] = Node(found.st_ino, path, found.st_size, file)
            elif not node.moving:
                self._resize(node, found.st_size)
            node.handles += 1
            node.writers += writing
            if created:
                self.changes += 1
                if self._count is not None:
                    self._count.files.change(node.inode, 0, node.size)
            return node

    def closed(self, node: Node, *, writing: bool) -> None:
        """A handle went away."""
        with self._lock:
            node.handles -= 1
            node.writers -= writing
            self.changes += writing
            self._let_go(node)
            told, node.told = (None, node.told) if node.writers else (node.told, None)
        if told is not None:
            told()

    def _let_go(self, node: Node) -> None:
        if node.handles or node.moving:
            return
        self._closings += 1
        if self.nodes.get(node.inode) is node:
            del self.nodes[node.inode]
        node.file = None
        if node.gone:
            self._used -= node.size

    # Names.

    def add_file(self) -> None:
        """Room for one more name. OSError ENOSPC at the most that a home may have."""
        with self._lock:
            self._make_entry()
            self._files += 1

    def drop_file(self) -> None:
        """It did not come to be."""
        with self._lock:
            self._files -= 1

    def add_folder(self) -> None:
        """As `add_file`."""
        with self._lock:
            self._make_entry()
            self._folders += 1

    def _make_entry(self) -> None:
        if not self._counted:
            raise self._refusal()
        if self.entries >= HOME_ENTRIES_MAX:
            raise OSError(
                errno.ENOSPC, f"a home has at most {HOME_ENTRIES_MAX:,} files and folders"
            )

    def drop_folder(self) -> None:
        """As `drop_file`."""
        with self._lock:
            self._folders -= 1

    def folder_made(self, inode: int) -> None:
        """`add_folder` made room for it."""
        with self._lock:
            self.changes += 1
            if self._count is not None:
                self._count.folders.change(inode, 0, 0)

    def folder_gone(self, inode: int) -> None:
        """It was removed."""
        with self._lock:
            self.changes += 1
            self._folders = max(0, self._folders - 1)  # what others put there was not counted
            if self._count is not None:
                self._count.folders.change(inode, 0, None)

    def file_gone(self, found: os.stat_result) -> None:
        """Its name was removed. found: as it was just before."""
        with self._lock:
            self.changes += 1
            node = self.nodes.get(found.st_ino)
            size = node.size if node else found.st_size
            self._files = max(0, self._files - 1)
            if self._count is not None:
                self._count.files.change(found.st_ino, size, None)
            if node is None:
                self._used = max(0, self._used - size)
            else:
                node.gone = True

    def file_moved(self, found: os.stat_result, path: bytes) -> None:
        """It lies at `path` now."""
        with self._lock:
            self.changes += 1
            node = self.nodes.get(found.st_ino)
            size = node.size if node else found.st_size
            if node is not None:
                node.path = path
            if self._count is not None:
                self._count.files.change(found.st_ino, size, size)

    def folder_moved(self, old: bytes, new: bytes) -> None:
        """And all that lies in it."""
        with self._lock:
            self.changes += 1
            for node in self.nodes.values():
                if node.path.startswith(old + b"/"):
                    node.path = new + node.path[len(old) :]

    def open_for_writing(self, inode: int) -> bool:
        """Whether a handle could change it."""
        node = self.nodes.get(inode)
        return node is not None and node.writers > 0

    def when_written(self, inode: int, told: Callable[[], None]) -> None:
        """As HomeFolder.when_written."""
        with self._lock:
            node = self.nodes.get(inode)
            if node is not None and node.writers:
                node.told = told
                return
        told()

    def writing(self) -> list[bytes]:
        """Paths of files that a handle could change."""
        with self._lock:
            return [node.path for node in self.nodes.values() if node.writers and not node.gone]

    # Counting anew.

    def begin_anew(self, *, empty: bool) -> None:
        """All names are gone: another folder is there. empty: nothing is in it."""
        with self._lock:
            self.changes += 1
            for node in self.nodes.values():
                node.gone = True
            self._counted = self._counted and empty
            if empty:
                self._files = self._folders = 0
                self._used = sum(node.size for node in self.nodes.values())

    def start_count(self) -> None:
        """From here on the walk may `find`; one at a time."""
        with self._lock:
            self._count = Count(Tally(), Tally())
            for node in self.nodes.values():
                if node.moving:
                    self._count_by_hand(node)

    def find(self, files: Iterable[os.stat_result], folders: Iterable[os.stat_result]) -> None:
        """What a walk found in one folder."""
        with self._lock:
            assert self._count is not None
            for found in files:
                is_new = self._count.files.find(found.st_ino, found.st_size)
                node = self.nodes.get(found.st_ino)
                if is_new and node is not None:
                    self._used += found.st_size - node.size
                    node.size = found.st_size
            for found in folders:
                self._count.folders.find(found.st_ino, 0)

    def finish_count(self) -> HomeUsage:
        """The walk is over; its sum holds now."""
        with self._lock:
            assert self._count is not None
            for node in self.nodes.values():
                self._notice_loss(node, self._count.files)
            files = self._count.files.total()
            self._files = files.number
            self._folders = self._count.folders.total().number
            self._used = files.size + sum(node.size for node in self.nodes.values() if node.gone)
            self._count = None
            self._counted = True
            self.changes += 1
            return self.usage

    @staticmethod
    def _notice_loss(node: Node, files: Tally) -> None:
        """Its name may have gone behind our back; the disk has its bytes until it is closed."""
        if node.file is not None and not node.gone and not os.fstat(node.file.fd).st_nlink:
            files.change(node.inode, node.size, None)
            node.gone = True

    def stop_count(self) -> None:
        """The walk failed; what was known stays."""
        with self._lock:
            self._count = None
