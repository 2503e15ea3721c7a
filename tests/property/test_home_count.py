"""What a home says it holds is what an own walk finds, after any calls in any order."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
import threading
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.homes import Outside, home_of
from zerostor.homes.walk import batches

LIMIT = 1000
NAMES = [b"/a", b"/b", b"/c", b"/d", b"/e", b"/d/a", b"/d/b", b"/e/a", b"/d/e", b"/d/e/a"]
PATHS = st.sampled_from(NAMES)
SIZES = st.integers(0, 700)
HANDLES = st.integers(0, 5)
FLAGS = st.sampled_from(
    [
        os.O_RDONLY,
        os.O_WRONLY | os.O_CREAT,
        os.O_RDWR | os.O_CREAT | os.O_TRUNC,
        os.O_WRONLY | os.O_CREAT | os.O_EXCL,
        os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    ]
)
CALLS = st.one_of(
    *[st.tuples(st.just("open"), PATHS, FLAGS)] * 3,
    *[st.tuples(st.just("write"), HANDLES, SIZES, SIZES)] * 3,
    st.tuples(st.just("cut"), HANDLES, SIZES),
    st.tuples(st.just("close"), HANDLES),
    st.tuples(st.just("remove"), PATHS),
    st.tuples(st.just("rename"), PATHS, PATHS, st.booleans()),
    st.tuples(st.just("make_folder"), PATHS),
    st.tuples(st.just("remove_folder"), PATHS),
    st.tuples(st.just("truncate"), PATHS, SIZES),
    st.tuples(st.just("set_times"), PATHS, SIZES),
    st.tuples(st.just("make_room"), SIZES),
    st.tuples(st.just("recount")),
    *[st.tuples(st.just("begin"), HANDLES, SIZES, SIZES)] * 2,
    *[st.tuples(st.just("land"), HANDLES)] * 2,
    *[st.tuples(st.just("end"), HANDLES)] * 2,
    *[st.tuples(st.just("count_on"))] * 5,
    st.tuples(st.just("set_limit"), st.integers(500, LIMIT)),
    st.tuples(st.just("lose"), st.booleans()),
)


class Session:
    """Calls a home, and keeps the handles it was given.

    Writes and counts can be taken step by step, with anything between the steps.
    """

    def __init__(self, home):
        self.home = home
        self.files = []
        self.writes = []
        self.walk = None
        self.batch = None

    def call(self, name, *arguments):
        with contextlib.suppress(OSError):
            own = getattr(self, f"_{name}", None)
            if own is not None:
                own(*arguments)
            else:
                getattr(self.home, name)(*arguments)

    def _open(self, path, flags):
        if len(self.files) < 6:
            self.files.append(self.home.open(path, flags, 0o644))

    def _handle(self, number):
        if not self.files:
            raise OSError
        return self.files[number % len(self.files)]

    def _write(self, number, offset, size):
        self._handle(number).write(offset, b"x" * size)

    def _cut(self, number, size):
        self._handle(number).truncate(size)

    def _close(self, number):
        file = self._handle(number)
        self.files.remove(file)
        file.close()

    def _begin(self, number, offset, size):
        file = self._handle(number)
        held = file._held()
        size += 1
        if file._appending:  # each landing would append once more
            raise OSError
        file._begin(offset, offset, size)
        self.writes.append((file, held, offset, size))

    def _write_on_its_way(self, number):
        if not self.writes:
            raise OSError
        return self.writes[number % len(self.writes)]

    def _land(self, number):
        _, held, offset, size = self._write_on_its_way(number)
        os.pwrite(held.fd, b"y" * size, offset)

    def _end(self, number):
        write = file, held, _, _ = self._write_on_its_way(number)
        self._land(number)
        self.writes.remove(write)
        self.home._ledger.end(file._node, held.fd)

    def _recount(self):
        if self.walk is None:
            self.home.recount()

    def _lose(self, replaced):
        """Somebody takes the folder away, or puts another in its place."""
        if self.walk is not None:  # taken step by step, it would not begin again
            return
        old = self.home.root + ".old"
        os.rename(self.home.root, old)
        if replaced:
            os.makedirs(os.path.join(self.home.root, "d"))
            open(os.path.join(self.home.root, "a"), "w").close()
        shutil.rmtree(old)
        self.home.stat(b"/a" if replaced else b"/")
        self.home.count()

    def _count_on(self):
        ledger = self.home._ledger
        if self.walk is None:
            self.home._still = True
            ledger.start_count()
            self.walk = batches(self.home._rooted)
        elif self.batch is None and (found := next(self.walk, None)):
            self.batch = found
        elif self.batch is not None:
            ledger.find([found for _, found in self.batch.files], self.batch.folders)
            self.batch = None
        else:
            ledger.finish_count()
            self.home._still = False
            self.walk = None

    def _rename(self, path, new, replace):
        self.home.rename(path, new, replace=replace)

    def _make_folder(self, path):
        self.home.make_folder(path, 0o755)

    def _set_times(self, path, time):
        self.home.set_times(path, time, time)

    def end(self):
        while self.writes:
            self.call("end", 0)
        while self.walk is not None:
            self.call("count_on")
        for file in self.files:
            file.close()
        self.files = []


def check(home, files=(), writes=()):
    """That the home knows what is there, and in open files without a name."""
    outside = Outside(home.root)
    orphans = {}
    for fd in [file._file.fd for file in files] + [held.fd for _, held, *_ in writes]:
        found = os.fstat(fd)
        if found.st_nlink == 0:
            orphans[found.st_ino] = found.st_size
    on_disk = outside.size + sum(orphans.values())
    assert home.usage.used >= on_disk
    assert home.usage.used == on_disk or writes
    assert home.usage.files == outside.files
    assert home._ledger._folders == outside.folders
    return home.usage.used


@settings(max_examples=200, deadline=None)
@given(st.lists(CALLS, min_size=25, max_size=80))
def test_any_calls(calls):
    with tempfile.TemporaryDirectory() as place, patch("zerostor.homes.walk._BATCH", 1):
        session = Session(home_of(place + "/home", LIMIT))
        session.call("make_folder", b"/d")
        session.call("open", b"/d/a", os.O_RDWR | os.O_CREAT)
        session.call("write", 0, 100, 100)
        before = 0
        for call in calls:
            session.call(*call)
            used = check(session.home, session.files, session.writes)
            assert used <= max(session.home.usage.limit, before)
            before = used
        session.end()
        check(session.home)


def random_call(random):
    def path():
        return random.choice(NAMES)

    def size():
        return random.randrange(700)

    number = random.randrange(6)
    return random.choice(
        [
            ("open", path(), os.O_RDWR | os.O_CREAT),
            ("open", path(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            ("open", path(), os.O_WRONLY | os.O_CREAT | os.O_APPEND),
            ("write", number, size(), size()),
            ("write", number, size(), size()),
            ("write", number, size(), size()),
            ("cut", number, size()),
            ("close", number),
            ("close", number),
            ("remove", path()),
            ("rename", path(), path(), True),
            ("make_folder", path()),
            ("remove_folder", path()),
            ("truncate", path(), size()),
            ("make_room", size()),
        ]
    )


def test_many_sessions_while_it_is_counted(tmp_path):
    """Sessions in threads, and counts that overlap them: no byte is lost or made up."""
    home = home_of(tmp_path / "home", 5 * LIMIT)
    stop = threading.Event()
    failed = []

    def work(seed):
        chance = random.Random(seed)
        session = Session(home)
        try:
            while not stop.is_set():
                session.call(*random_call(chance))
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            session.end()

    for turn in range(8):
        stop.clear()
        threads = [threading.Thread(target=work, args=(turn * 10 + seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(40):
            home.recount()
        stop.set()
        for thread in threads:
            thread.join()
        assert not failed
        check(home)
