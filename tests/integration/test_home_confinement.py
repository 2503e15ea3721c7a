"""Nothing leads out of a home, whatever is changed outside while it is used; and nothing in it is
too deep, too odd or too restless to be counted."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
import threading
import traceback
from pathlib import Path

import pytest

from sshgw.visit import Visit
from tests.fakes.homes import counted, failing, fill, home_of
from tests.fakes.links import swapping
from zerostor.homes import folder as folder_module
from zerostor.homes import ledger
from zerostor.homes.rooted import has_openat2

WAYS = [True] + [False] * has_openat2()
CREATE = os.O_WRONLY | os.O_CREAT


@pytest.fixture(params=WAYS, ids=lambda stepwise: "stepwise" if stepwise else "openat2")
def home(request, tmp_path):
    return home_of(tmp_path / "home", 10**9, stepwise=request.param)


def meet(home, folders, acts, turns):
    """What came of the acts, done in turn; at least until both ways were met."""
    met = set()
    for turn in range(100 * turns):
        for act in acts:
            try:
                met.add(act(home, folders[turn % len(folders)]))
            except OSError as error:
                met.add(error.errno)
        if turn > turns and b"inside" in met and met & {errno.EACCES, errno.ENOTDIR}:
            return met
    raise AssertionError(f"only met {met}")


def test_a_folder_that_turns_into_a_link_leads_nowhere(home, tmp_path):
    outside = tmp_path / "outside"
    for folder in (outside, outside / "e", Path(home.root, "d"), Path(home.root, "d", "e")):
        folder.mkdir(parents=True)
        (folder / "f").write_text("inside" if "home" in str(folder) else "outside")
        (folder / "g").write_text("stays")
    before = snapshot(outside)
    with swapping(Path(home.root, "d"), tmp_path / "aside", outside):
        met = meet(home, [b"/d", b"/d/e"], ACTS, 1000)
    assert snapshot(outside) == before
    assert b"outside" not in met
    home.recount()
    assert home.usage == counted(home)


def read(home, folder):
    file = home.open(folder + b"/f", os.O_RDONLY, 0)
    try:
        return file.read(0, 100)
    finally:
        file.close()


ACTS = [
    read,
    lambda home, folder: fill(home, folder + b"/new", b"outside?"),
    lambda home, folder: home.remove(folder + b"/new"),
    lambda home, folder: home.make_folder(folder + b"/made", 0o777),
    lambda home, folder: home.remove_folder(folder + b"/made"),
    lambda home, folder: home.rename(folder + b"/g", b"/g", replace=True),
    lambda home, folder: home.rename(b"/g", folder + b"/g", replace=True),
    lambda home, folder: home.truncate(folder + b"/f", 6),
    lambda home, folder: home.set_mode(folder + b"/f", 0o700),
    lambda home, folder: home.set_mode(folder, 0o711),
    lambda home, folder: home.set_times(folder + b"/f", 1, 1),
    lambda home, folder: home.set_times(folder, 1, 1),
    lambda home, folder: len(list(home.names(folder))),
    lambda home, folder: any(seen.size == 7 for seen in home.walk(b"/")) and b"outside",
    lambda home, folder: home.recount().files and None,
]


def snapshot(folder):
    found = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.stat()
        text = path.read_text() if path.is_file() else ""
        found[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_ino, text)
    return found


def test_a_file_that_turns_into_a_link_leads_nowhere(home, tmp_path):
    (tmp_path / "secret").write_text("outside")
    fill(home, b"/f", b"inside")
    with swapping(Path(home.root, "f"), tmp_path / "aside", tmp_path / "secret"):
        met = meet(home, [b""], (read, *ACTS[7:11]), 2000)
    assert (tmp_path / "secret").read_text() == "outside" and b"outside" not in met
    found = (tmp_path / "secret").stat()
    assert found.st_mode & 0o777 != 0o700 and found.st_mtime_ns != 1


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
def test_what_was_a_file_a_moment_ago_is_looked_at_again(home, tmp_path, monkeypatch, flags):
    fill(home, b"/plain", b"x")
    plain = os.lstat(home.root + "/plain")
    (tmp_path / "secret").write_text("no")
    os.mkfifo(home.root + "/pipe")
    os.link(tmp_path / "secret", home.root + "/hard")
    os.symlink(tmp_path / "secret", home.root + "/link")
    monkeypatch.setattr(folder_module, "stat_in", lambda folder, name: plain)
    for path in (b"/pipe", b"/hard", b"/link"):
        with failing(errno.EACCES):
            home.open(path, flags, 0)
    assert home._ledger.nodes == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make device nodes and mounts")
def test_devices_are_not_opened(home):
    os.mknod(home.root + "/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    for flags in (os.O_RDONLY, os.O_WRONLY, CREATE | os.O_TRUNC):
        with failing(errno.EACCES):
            home.open(b"/null", flags, 0o644)
    assert home.recount().files == 0


def test_folders_deeper_than_a_path_may_be_are_counted(home):
    part = b"/" + b"/".join([b"x" * 100] * 30)
    for name in (b"/a", b"/b", b"/c"):
        deep = name
        home.make_folder(deep, 0o755)
        for step in part.split(b"/")[1:]:
            deep += b"/" + step
            home.make_folder(deep, 0o755)
    fill(home, b"/c" + part + b"/f", b"x" * 100)
    # All three paths are as long as 3,000 bytes; moved into each other, 9,000.
    home.rename(b"/c", b"/b" + part + b"/c", replace=False)
    home.rename(b"/b", b"/a" + part + b"/b", replace=False)
    with failing(errno.ENAMETOOLONG):
        home.stat(b"/a" + part + b"/b" + part + b"/c" + part + b"/f")
    before = home.usage
    assert before.used == 100 and home.recount() == before
    assert home._ledger._folders == 93
    assert [seen.size for seen in home.walk(b"/")] == [100]


def test_walks_are_sorted_and_leave_links_out(home):
    for folder in (b"/a", b"/a/b", b"/a.d"):
        home.make_folder(folder, 0o755)
    names = [b"/a.txt", b"/a/b/c", b"/a/b.x", b"/a.d/e", b"/a/a", b"/b", b"/\xff", b"/a-"]
    for name in names:
        fill(home, name, name)
    os.symlink("b", home.root + "/link")
    walked = list(home.walk(b"/"))
    assert [seen.path for seen in walked] == sorted(names)
    assert [seen.size for seen in walked] == [len(name) for name in sorted(names)]
    below = [name for name in sorted(names) if name.startswith(b"/a/")]
    assert [seen.path for seen in home.walk(b"/a/")] == below
    assert [seen.path for seen in home.walk(b"//a/../b")] == [b"/b"]
    with failing(errno.EACCES):
        home.walk(b"/link")
    with failing(errno.ENOENT):
        home.walk(b"/none")


def test_a_walk_survives_what_happens_meanwhile(home):
    for number in range(20):
        home.make_folder(b"/%02d" % number, 0o755)
        fill(home, b"/%02d/f" % number, b"x")
    walk = home.walk(b"/")
    assert next(walk).path == b"/00/f"
    home.rename(b"/05", b"/zz", replace=False)
    home.remove(b"/06/f")
    home.remove_folder(b"/06")
    shutil.rmtree(home.root + "/07")
    os.rename(home.root + "/08", home.root + "/yy")
    os.symlink("/etc", home.root + "/08")
    found = [seen.path for seen in walk]
    assert found == [b"/%02d/f" % number for number in range(1, 20) if number not in (5, 6, 7, 8)]


def test_a_home_has_a_limited_number_of_entries(home, monkeypatch):
    monkeypatch.setattr(ledger, "HOME_ENTRIES_MAX", 4)
    home.make_folder(b"/d", 0o755)
    for number in range(3):
        fill(home, b"/%d" % number, b"")
    visit = Visit("me", home, lambda user: None, lambda user, removed: None)
    for call in (lambda: fill(home, b"/x", b""), lambda: home.make_folder(b"/x", 0o755)):
        with pytest.raises(OSError, match="at most 4 files and folders") as caught:
            call()
        assert caught.value.errno == errno.ENOSPC
        assert visit.explain(caught.value) == "a home has at most 4 files and folders"
    assert "is full" in visit.explain(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    fill(home, b"/0", b"more")
    home.remove_folder(b"/d")
    fill(home, b"/x", b"")


def test_folders_stay_where_they_are_if_moving_them_spoils_every_count(home, monkeypatch):
    home.make_folder(b"/d", 0o755)
    fill(home, b"/d/f", b"x")
    walks = []

    def restless(rooted):
        walks.append(1)
        with contextlib.suppress(OSError):
            home.rename(b"/d", b"/e", replace=False)
            home.rename(b"/e", b"/d", replace=False)
        return genuine(rooted)

    genuine = folder_module.batches
    monkeypatch.setattr(folder_module, "batches", restless)
    assert home.recount().used == 1 and len(walks) == 3
    home.rename(b"/d", b"/e", replace=False)


@pytest.mark.parametrize("visited", [b"/a", b"/b"])
def test_a_file_that_is_moved_while_it_is_counted_counts_once(home, monkeypatch, visited):
    def moving(rooted):
        for batch in genuine(rooted):
            yield batch
            if any(path.startswith(visited) for path, _ in batch.files):
                home.rename(b"/a/f", b"/b/from_a", replace=False)
                home.rename(b"/b/f", b"/a/from_b", replace=False)

    for folder, size in ((b"/a", 10), (b"/b", 100)):
        home.make_folder(folder, 0o755)
        fill(home, folder + b"/f", b"x" * size)
    genuine = folder_module.batches
    monkeypatch.setattr(folder_module, "batches", moving)
    assert home.recount() == counted(home) and home.usage.used == 110


def test_a_count_that_failed_leaves_the_last_one(home, monkeypatch):
    fill(home, b"/a", b"x" * 10)
    genuine = folder_module.batches
    monkeypatch.setattr(folder_module, "batches", lambda rooted: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        home.recount()
    monkeypatch.setattr(folder_module, "batches", genuine)
    fill(home, b"/b", b"x" * 10)
    assert home.usage.used == 20 == home.recount().used


def as_ordinary_user(act):
    """Run `act` in a folder of an account without rights; the traceback it failed with."""
    root = tempfile.mkdtemp()
    os.chmod(root, 0o777)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            act(home_of(root + "/home", 1000))
        except BaseException:  # noqa: BLE001
            os.write(writer, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as failure:
        said = failure.read()
    os.waitpid(child, 0)
    shutil.rmtree(root)
    return said


def test_without_rights_of_root_all_the_same():
    def act(home):
        home.make_folder(b"/d", 0)
        fill(home, b"/d/f", b"x" * 10)
        home.set_mode(b"/d/f", 0)
        file = home.open(b"/d/f", os.O_RDONLY, 0)
        assert file.read(0, 100) == b"x" * 10
        file.close()
        # As rsync -a leaves them, and somebody who wants his files not to count.
        os.mkdir(home.root + "/d/hidden")
        Path(home.root, "d/hidden/g").write_text("y" * 100)
        os.chmod(home.root + "/d/hidden", 0)
        assert home.recount().used == 110
        assert [seen.size for seen in home.walk(b"/")] == [10, 100]
        os.chmod(home.root, 0o500)
        assert home.recount().used == 110

    assert as_ordinary_user(act) == ""


def test_who_comes_while_it_is_counted_anew_does_not_wait(home):
    with home._counting:
        visitor = threading.Thread(target=home.count, daemon=True)
        visitor.start()
        visitor.join(30)
        assert not visitor.is_alive()
