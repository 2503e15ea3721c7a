"""HomeFolder on a disk: the names of a home. Sizes are the ledger's, ways in are `rooted`'s."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Sequence

from zerostor.core.homes import HomeUsage, within
from zerostor.home_ports import Prefer, Seen
from zerostor.homes.ledger import Ledger, Node
from zerostor.homes.oldest import Oldest
from zerostor.homes.opened import OpenedFile, file_mode, folder_mode, set_times_of
from zerostor.homes.removal import remove_tree
from zerostor.homes.rooted import Descriptor, Rooted, is_plain, parts_of, refuse_special, stat_in
from zerostor.homes.walk import batches, names_in, sorted_files
from zerostor.kernel_calls import on_local_disk

_FLAGS = os.O_ACCMODE | os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_APPEND
_OPEN = os.O_ACCMODE | os.O_APPEND
_TRIES = 20
_UNFINISHED_MAX = 10_000
"""Files that are remembered as left in the middle, or gone; of more the oldest are forgotten."""
_COUNTS = 3
"""Walks that a moved folder may spoil, before folders have to stay where they are for one."""


class Folder:
    """HomeFolder in the folder `root`. Call `count` before anything is written.

    Names change one at a time; bytes are read and written beside that.
    """

    def __init__(self, root: str, limit: int, *, stepwise: bool = False) -> None:
        """Makes the folder, open to its owner only, if it is not there. Raises OSError."""
        os.makedirs(root, mode=0o700, exist_ok=True)
        self._root = root
        self._rooted = Rooted(root, stepwise=stepwise, replaced=self._begin_anew)
        self._local = on_local_disk(root)
        self._ledger = Ledger(limit)
        self._names = threading.Lock()
        self._counting = threading.Lock()
        self._moves = 0
        self._still = False
        self._unfinished: dict[int, tuple[int, int]] = {}
        self._went: dict[int, None] = {}
        self._oldest = Oldest(self._rooted, self._ledger, self.remove_if_same)

    @property
    def usage(self) -> HomeUsage:
        """What is used now: counted along, not walked."""
        return self._ledger.usage

    @property
    def counted(self) -> bool:
        """Whether it was counted since this process has it."""
        return self._ledger.counted

    @property
    def at_hand(self) -> bool:
        """As HomeFolder.at_hand."""
        return self._local and not self._names.locked()

    @property
    def changes(self) -> int:
        """Grows with each change of the files, and when one is closed that could be written."""
        return self._ledger.changes

    @property
    def entries(self) -> int:
        """Files and folders now."""
        return self._ledger.entries

    @property
    def root(self) -> str:
        """Where it lies on this host."""
        return self._root

    def set_aside(self, size: int) -> int:
        """As HomeFolder.set_aside."""
        return self._ledger.set_aside(size)

    def set_limit(self, limit: int) -> None:
        """From here on."""
        self._ledger.limit = limit

    def _begin_anew(self, empty: bool) -> None:
        """Another folder is there than before. A count that is on its way begins again."""
        self._moves += 1
        self._ledger.begin_anew(empty=empty)
        self._oldest.forget()

    # Files.

    def open(self, path: bytes, flags: int, mode: int) -> OpenedFile:
        """As os.open; regular files with one name only."""
        flags &= _FLAGS
        writing = flags & os.O_ACCMODE != os.O_RDONLY
        with self._names:
            folder, name = self._rooted.place(path)
            file, created = self._open_or_create(folder, name, flags, file_mode(mode))
            node = self._ledger.opened(file, within(path), writing=writing, created=created)
        truncating = bool(flags & os.O_TRUNC) and writing
        opened = OpenedFile(self._ledger, self, file, node, flags, owned=created or truncating)
        if truncating and not created:
            try:
                opened.truncate(0)
            except BaseException:
                opened.close()
                raise
        return opened

    def _open_or_create(
        self, folder: Descriptor, name: bytes, flags: int, mode: int
    ) -> tuple[Descriptor, bool]:
        for _ in range(_TRIES):  # something outside may make and remove the name all the time
            try:
                found = stat_in(folder, name)
            except FileNotFoundError:
                if not flags & os.O_CREAT:
                    raise
                with contextlib.suppress(FileExistsError):
                    return self._create(folder, name, flags, mode), True
                continue
            if flags & os.O_CREAT and flags & os.O_EXCL:
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
            refuse_special(found)
            with contextlib.suppress(FileNotFoundError):
                file = self._rooted.open_in(folder, name, flags & _OPEN)
                refuse_special(os.fstat(file.fd))
                return file, False
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def _create(self, folder: Descriptor, name: bytes, flags: int, mode: int) -> Descriptor:
        self._ledger.add_file()
        try:
            return self._rooted.open_in(folder, name, flags & _OPEN | os.O_CREAT | os.O_EXCL, mode)
        except BaseException:
            self._ledger.drop_file()
            raise

    def truncate(self, path: bytes, size: int) -> None:
        """As HomeFile.truncate."""
        file = self.open(path, os.O_WRONLY, 0)
        try:
            file.truncate(size)
        finally:
            file.close()

    def remove(self, path: bytes) -> None:
        """As unlink; links and special files may go as well."""
        with self._names:
            folder, name = self._rooted.place(path)
            self._unlink(folder, name, stat_in(folder, name))

    def _unlink(self, folder: Descriptor, name: bytes, found: os.stat_result) -> None:
        if stat.S_ISDIR(found.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        os.unlink(name, dir_fd=folder.fd)
        self._gone(found)

    def _gone(self, found: os.stat_result) -> None:
        """A name of what was `found` is no more."""
        if is_plain(found):
            self._ledger.file_gone(found)
            self._went[found.st_ino] = None
            if len(self._went) > _UNFINISHED_MAX:
                del self._went[next(iter(self._went))]
        elif stat.S_ISDIR(found.st_mode):
            self._ledger.folder_gone(found.st_ino)
        else:
            self._ledger.touch()

    def remove_node(self, node: Node) -> None:
        """Take the name of an open file away, if it still has that."""
        with self._names, contextlib.suppress(FileNotFoundError, NotADirectoryError):
            folder, name = self._rooted.place(node.path)
            found = stat_in(folder, name)
            if found.st_ino == node.inode and not node.gone:
                self._unlink(folder, name, found)

    def remove_if_same(self, wanted: Seen) -> bool:
        """Remove a file that is as it was seen and that nobody has open; False for any other."""
        with self._names, contextlib.suppress(FileNotFoundError, NotADirectoryError):
            folder, name = self._rooted.place(wanted.path)
            found = stat_in(folder, name)
            if (
                is_plain(found)
                and Seen.of(wanted.path, found) == wanted
                and wanted.inode not in self._ledger.nodes
            ):
                self._unlink(folder, name, found)
                return True
        return False

    def sync_entry(self, path: bytes) -> None:
        """Return when the name is on the disk; what was moved behind our back is let be."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            folder = self._rooted.folder(path.rpartition(b"/")[0])
            os.fsync(folder.fd)

    # Folders.

    def names(self, path: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
        """What a folder holds, in no order, without . and .."""
        return names_in(self._rooted.folder(path))

    def make_folder(self, path: bytes, mode: int) -> None:
        """As mkdir."""
        with self._names:
            folder, name = self._rooted.place(path)
            self._ledger.add_folder()
            try:
                os.mkdir(name, folder_mode(mode), dir_fd=folder.fd)
                found = stat_in(folder, name)
            except BaseException:
                self._ledger.drop_folder()
                raise
            self._ledger.folder_made(found.st_ino)

    def remove_folder(self, path: bytes) -> None:
        """As rmdir."""
        with self._names:
            folder, name = self._rooted.place(path)
            found = stat_in(folder, name)
            os.rmdir(name, dir_fd=folder.fd)
            self._gone(found)

    # Both.

    def stat(self, path: bytes) -> os.stat_result:
        """As lstat."""
        return self._rooted.stat(path)

    def rename(self, path: bytes, new: bytes, *, replace: bool) -> None:
        """As rename; without `replace` EEXIST where `new` is there."""
        with self._names:
            folder, name = self._rooted.place(path)
            new_folder, new_name = self._rooted.place(new)
            found = stat_in(folder, name)
            moves_folder = stat.S_ISDIR(found.st_mode)
            if not moves_folder:
                refuse_special(found)
            elif self._still:
                raise OSError(errno.EBUSY, "the home is being counted, try again in a moment")
            replaced = _stat_or_none(new_folder, new_name)
            if replaced is not None and not replace:
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
            os.rename(name, new_name, src_dir_fd=folder.fd, dst_dir_fd=new_folder.fd)
            if replaced is not None and replaced.st_ino != found.st_ino:
                self._gone(replaced)
            if moves_folder:
                self._moves += 1
                self._ledger.folder_moved(within(path), within(new))
            else:
                self._ledger.file_moved(found, within(new))
        if moves_folder:
            self._oldest.forget()

    def set_mode(self, path: bytes, mode: int) -> None:
        """As HomeFile.set_mode. The home itself stays as it is."""
        if not parts_of(path):
            return
        folder, name = self._rooted.place(path)
        found = stat_in(folder, name)
        if not stat.S_ISDIR(found.st_mode):
            refuse_special(found)
        file = self._rooted.open_in(folder, name, os.O_RDONLY)
        is_folder = stat.S_ISDIR(os.fstat(file.fd).st_mode)
        if not is_folder:
            refuse_special(os.fstat(file.fd))
        os.fchmod(file.fd, folder_mode(mode) if is_folder else file_mode(mode))
        self._ledger.touch()

    def set_times(self, path: bytes, accessed_ns: int, modified_ns: int) -> None:
        """As HomeFile.set_times."""
        times = (accessed_ns, modified_ns)
        if not parts_of(path):
            top = self._rooted.folder(path)
            set_times_of(top.fd, times)
            return
        folder, name = self._rooted.place(path)
        found = stat_in(folder, name)
        if not stat.S_ISDIR(found.st_mode):
            refuse_special(found)
        set_times_of(name, times, folder.fd)
        self._ledger.touch()

    def left(self, found: os.stat_result, *, whole: bool) -> None:
        """Who wrote to it is done, or left in the middle."""
        with self._names:
            self._unfinished.pop(found.st_ino, None)
            if not whole:
                self._unfinished[found.st_ino] = found.st_size, found.st_mtime_ns
                while len(self._unfinished) > _UNFINISHED_MAX:
                    del self._unfinished[next(iter(self._unfinished))]

    def left_since(self, began_ns: int) -> None:
        """As `left`, of files that were written to since then; a walk."""
        for batch in batches(self._rooted):
            for _, found in batch.files:
                # The first second of 1970 is what rsync gives to what --partial keeps.
                unlike = found.st_mtime_ns >= began_ns or found.st_mtime_ns < 10**9
                if unlike and found.st_ctime_ns >= began_ns:
                    self.left(found, whole=False)

    def written_now(self, seen: Seen) -> bool:
        """Whether somebody has it open for writing."""
        return self._ledger.open_for_writing(seen.inode)

    def writing(self) -> Collection[bytes]:
        """As HomeFolder.writing."""
        return self._ledger.writing()

    def when_written(self, seen: Seen, told: Callable[[], None]) -> None:
        """As HomeFolder.when_written."""
        self._ledger.when_written(seen.inode, told)

    def unfinished(self, seen: Seen) -> bool:
        """Whether it is as somebody left it in the middle."""
        return self._unfinished.get(seen.inode) == (seen.size, seen.modified_ns)

    def went(self) -> Collection[int]:
        """As HomeFolder.went."""
        with self._names:
            went, self._went = self._went, {}
        return list(went)

    def prefer(self, preferred: Prefer) -> None:
        """As HomeFolder.prefer."""
        self._oldest.prefer = preferred

    def reading(self, path: bytes) -> contextlib.AbstractContextManager[None]:
        """As HomeFolder.reading."""
        return self._oldest.reading(within(path))

    # All of it: for a thread.

    def walk(self, path: bytes) -> Iterator[Seen]:
        """All plain files below, or the one at `path`, sorted by path."""
        path = within(path)
        found = self._rooted.stat(path)
        if stat.S_ISDIR(found.st_mode):
            return sorted_files(self._rooted, path)
        refuse_special(found)
        return iter([Seen.of(path, found)])

    def make_room(self, wanted: int, spared: Collection[int] = ()) -> Sequence[Seen]:
        """As HomeFolder.make_room."""
        return self._oldest.make_room(wanted, spared)

    def remove_all(self) -> None:
        """As HomeFolder.remove_all."""
        self._rooted.retire()
        self._ledger.begin_anew(empty=False)
        remove_tree(self._root)

    def count(self) -> HomeUsage:
        """As `recount`, unless it was counted before."""
        if self.counted:  # nobody waits for a count that goes on beside him
            return self.usage
        with self._counting:
            return self.usage if self.counted else self._recount()

    def recount(self) -> HomeUsage:
        """Walk and count anew. Exact, whatever is written through this object meanwhile."""
        with self._counting:
            return self._recount()

    def _recount(self) -> HomeUsage:
        try:
            for attempt in range(_COUNTS):
                with self._names:
                    self._still = attempt == _COUNTS - 1
                    moves = self._moves
                self._count_once()
                with self._names:
                    if moves == self._moves:
                        self._oldest.forget()
                        return self._ledger.finish_count()
        finally:
            self._still = False
            self._ledger.stop_count()
        raise OSError(errno.EAGAIN, "the home was replaced while it was counted")

    def _count_once(self) -> None:
        self._ledger.start_count()
        for batch in batches(self._rooted):
            self._ledger.find([found for _, found in batch.files], batch.folders)


def _stat_or_none(folder: Descriptor, name: bytes) -> os.stat_result | None:
    try:
        return stat_in(folder, name)
    except FileNotFoundError:
        return None
