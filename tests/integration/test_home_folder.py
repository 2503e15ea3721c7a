"""The folder of a home on a real disk: names, modes, the limit, what is refused."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from tests.fakes.homes import counted, failing, fill, home_of
from tests.fakes.logs import file_size_limit
from zerostor.homes.folder import Folder
from zerostor.homes.rooted import has_openat2

WAYS = [True] + [False] * has_openat2()
CREATE = os.O_WRONLY | os.O_CREAT


@pytest.fixture(params=WAYS, ids=lambda stepwise: "stepwise" if stepwise else "openat2")
def home(request, tmp_path):
    return home_of(tmp_path / "home", 1_000_000, stepwise=request.param)


def test_what_is_written_is_read_and_counted(home):
    file = home.open(b"/a", os.O_RDWR | os.O_CREAT, 0o644)
    file.write(0, b"hello")
    file.write(5, b" world")
    assert file.read(0, 100) == b"hello world" and file.read(11, 1) == b""
    assert home.usage.used == 11 and home.usage.files == 1
    file.truncate(3)
    assert file.stat().st_size == home.usage.used == 3
    file.close()
    file.close()
    assert home.usage == counted(home)


def test_handles_of_one_file_share_its_size(home):
    one, two = (home.open(b"/a", CREATE, 0o644) for _ in range(2))
    one.write(0, b"x" * 100)
    two.write(50, b"y" * 100)
    assert home.usage.used == 150
    two.close()
    one.truncate(10)
    assert home.usage.used == 10 == counted(home).used


def test_holes_and_truncation_count(home):
    fill(home, b"/hole", b"x", offset=999_999)
    assert home.usage.used == 1_000_000
    with failing(errno.EDQUOT):
        home.truncate(b"/hole", 1_000_001)
    home.truncate(b"/hole", 5)
    with failing(errno.EDQUOT):
        fill(home, b"/far", b"x", offset=2**63 - 2)
    with failing(errno.EINVAL):
        fill(home, b"/far", b"x", offset=-1)
    assert home.usage.used == 5 == counted(home).used


def test_what_does_not_fit_is_refused_whole_and_gone_at_close(home):
    fill(home, b"/old", b"x" * 900_000)
    file = home.open(b"/new", CREATE, 0o644)
    file.write(0, b"y" * 100_000)
    with failing(errno.EDQUOT, "1,000,000 of 1,000,000"):
        file.write(100_000, b"y")
    file.close()
    assert [name for name, _ in home.names(b"/")] == [b"old"]
    assert home.usage.used == 900_000 == counted(home).used


def test_what_was_refused_and_fitted_then_stays(home):
    fill(home, b"/old", b"x" * 900_000)
    file = home.open(b"/new", CREATE, 0o644)
    with failing(errno.EDQUOT):
        file.write(0, b"y" * 200_000)
    home.remove(b"/old")
    file.write(0, b"y" * 200_000)
    file.close()
    assert home.stat(b"/new").st_size == 200_000


def test_a_file_that_was_there_before_is_kept_though_the_limit_cut_its_end(home):
    fill(home, b"/a", b"x" * 900_000)
    file = home.open(b"/a", CREATE, 0o644)
    with failing(errno.EDQUOT):
        file.write(900_000, b"y" * 200_000)
    file.close()
    assert home.stat(b"/a").st_size == 900_000


def test_a_file_that_was_begun_anew_and_cut_is_removed(home):
    """Half of the new one under the name of the old would be taken for either."""
    fill(home, b"/a", b"x" * 900_000)
    file = home.open(b"/a", CREATE | os.O_TRUNC, 0o644)
    file.write(0, b"y" * 600_000)
    with failing(errno.EDQUOT):
        file.write(600_000, b"y" * 600_000)
    file.close()
    assert list(home.names(b"/")) == [] and home.usage == counted(home)


def test_what_was_synced_before_the_limit_cut_it_stays(home):
    """As a log or a database over sshfs; an upload that is cut is synced by no client before."""
    kept = home.open(b"/kept", CREATE, 0o644)
    gone = home.open(b"/gone", CREATE, 0o644)
    kept.write(0, b"x" * 400_000)
    kept.sync()
    for file in (kept, gone):
        with failing(errno.EDQUOT):
            file.write(400_000, b"y" * 700_000)
    gone.sync()
    kept.close()
    gone.close()
    assert [name for name, _ in home.names(b"/")] == [b"kept"]
    assert home.usage == counted(home)


def test_an_open_file_whose_name_went_behind_our_back_counts_until_it_is_closed(home):
    """rsync --delete takes names of files that a session holds open, again and again."""
    fill(home, b"/a", b"x" * 900_000)
    held = home.open(b"/a", os.O_RDWR, 0)
    os.unlink(home.root + "/a")
    for _ in range(2):
        assert home.recount().used == 900_000
        with failing(errno.EDQUOT):
            fill(home, b"/a", b"x" * 200_000)
    held.truncate(500_000)
    assert home.usage.used == 500_000 and home.usage.files == 0
    held.close()
    assert home.usage == counted(home)


def test_syncing_flushes_the_file_and_its_folder(home, monkeypatch):
    def flushed(fd):
        seen.append(os.fstat(fd).st_ino)

    seen = []
    monkeypatch.setattr("zerostor.homes.opened.flush", flushed)
    monkeypatch.setattr(os, "fsync", flushed)
    home.make_folder(b"/d", 0o755)
    for path, folder in ((b"/d/f", home.root + "/d"), (b"/f", home.root)):
        file = home.open(path, CREATE, 0o644)
        file.sync()
        assert seen == [file.stat().st_ino, os.stat(folder).st_ino]
        home.remove(path)
        file.sync()
        file.close()
        seen.clear()


def test_a_removed_file_counts_until_it_is_closed(home):
    file = home.open(b"/a", CREATE, 0o644)
    file.write(0, b"x" * 600_000)
    home.remove(b"/a")
    assert home.usage.used == 600_000 and home.usage.files == 0
    with failing(errno.EDQUOT):
        fill(home, b"/b", b"y" * 600_000)
    assert home.recount().used == 600_000
    file.write(600_000, b"x")
    file.close()
    assert home.usage.used == 0 == counted(home).used


def test_renaming_over_a_file_frees_it(home):
    fill(home, b"/a", b"x" * 100)
    fill(home, b"/b", b"y" * 1000)
    with failing(errno.EEXIST):
        home.rename(b"/a", b"/b", replace=False)
    home.rename(b"/a", b"/b", replace=True)
    assert home.usage.used == 100 and home.usage.files == 1
    home.rename(b"/b", b"/b", replace=True)
    assert home.usage == counted(home)


def test_folders_are_renamed_with_what_is_open_in_them(home):
    home.make_folder(b"/d", 0o755)
    home.make_folder(b"/d/e", 0o755)
    file = home.open(b"/d/e/f", CREATE, 0o644)
    home.rename(b"/d", b"/g", replace=False)
    file.write(0, b"x" * 10)
    (seen,) = home.walk(b"/")
    assert seen.path == b"/g/e/f" and home.written_now(seen) and home.usage.used == 10
    with failing(errno.EDQUOT):
        file.write(10, b"x" * 1_000_000)
    file.sync()
    file.close()
    assert list(home.names(b"/g/e")) == [] and home.usage.used == 0
    with failing(errno.EINVAL):
        home.rename(b"/g", b"/g/e/g", replace=False)
    with failing(errno.ENOTEMPTY):
        home.remove_folder(b"/g")
    home.remove_folder(b"/g/e")
    home.remove_folder(b"/g")
    assert home.usage == counted(home)


def test_appending_goes_to_the_end(home):
    fill(home, b"/a", b"one")
    file = home.open(b"/a", os.O_RDWR | os.O_APPEND, 0)
    file.write(0, b"two")
    file.write(0, b"three")
    assert file.read(0, 20) == b"onetwothree" and home.usage.used == 11
    file.close()


def test_opening_to_truncate_frees(home):
    fill(home, b"/a", b"x" * 1_000_000)
    file = home.open(b"/a", CREATE | os.O_TRUNC, 0o644)
    assert home.usage.used == 0
    file.close()
    assert home.usage == counted(home)


def test_opening_what_is_there_or_not(home):
    fill(home, b"/a", b"x")
    home.make_folder(b"/d", 0o755)
    for path, flags, code in [
        (b"/a", CREATE | os.O_EXCL, errno.EEXIST),
        (b"/none", os.O_RDONLY, errno.ENOENT),
        (b"/none/b", CREATE, errno.ENOENT),
        (b"/a/b", CREATE, errno.ENOTDIR),
        (b"/d", os.O_RDONLY, errno.EISDIR),
        (b"/d", CREATE, errno.EISDIR),
        (b"/", CREATE, errno.EBUSY),
    ]:
        with failing(code):
            home.open(path, flags, 0o644)
    with failing(errno.EBADF):
        home.open(b"/a", os.O_RDONLY, 0).write(0, b"y")
    assert home.usage == counted(home)


@pytest.mark.parametrize(
    "name",
    [b"\xff\xfe", b"new\nline", b"\x01\x1b[31m", b" ", b"-rf", b"a\\b", b"x" * 255, "ö".encode()],
)
def test_names_are_bytes(home, name):
    fill(home, b"/" + name, b"x")
    home.make_folder(b"/d", 0o755)
    home.rename(b"/" + name, b"/d/" + name, replace=False)
    assert [found for found, _ in home.names(b"/d")] == [name]
    assert [seen.path for seen in home.walk(b"/")] == [b"/d/" + name]
    home.remove(b"/d/" + name)
    assert home.usage == counted(home)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (b"/" + b"x" * 256, errno.ENAMETOOLONG),
        (b"/x" * 3000, errno.ENAMETOOLONG),
        (b"/a\0b", errno.EINVAL),
        (b"/", errno.EBUSY),
        (b"/..", errno.EBUSY),
        (b"", errno.EBUSY),
    ],
)
def test_names_that_cannot_be(home, path, code):
    for call in (
        lambda: home.make_folder(path, 0o755),
        lambda: home.open(path, CREATE, 0o644),
        lambda: home.remove(path),
        lambda: home.remove_folder(path),
        lambda: home.rename(path, b"/ok", replace=True),
    ):
        with failing(code):
            call()
    assert home.usage == counted(home)


def test_above_the_home_is_the_home(home, tmp_path):
    (tmp_path / "secret").write_text("no")
    with failing(errno.ENOENT):
        home.open(b"/../secret", os.O_RDONLY, 0)
    fill(home, b"../../a/../b", b"x")
    assert [name for name, _ in home.names(b"/../..")] == [b"b"]
    assert os.listdir(home.root) == ["b"]


def test_links_and_special_files_are_not_opened(home, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("no")
    root = home.root
    os.symlink(outside / "secret", root + "/link")
    os.symlink(outside, root + "/way")
    os.link(outside / "secret", root + "/hard")
    os.mkfifo(root + "/pipe")
    for path in (b"/link", b"/hard", b"/pipe"):
        for flags in (os.O_RDONLY, os.O_WRONLY, CREATE, os.O_RDWR | os.O_TRUNC):
            with failing(errno.EACCES):
                home.open(path, flags, 0o644)
        for call in (
            lambda path=path: home.truncate(path, 0),
            lambda path=path: home.set_mode(path, 0o777),
            lambda path=path: home.set_times(path, 0, 0),
            lambda path=path: home.rename(path, b"/other", replace=False),
        ):
            with failing(errno.EACCES):
                call()
    for call in (
        lambda: home.open(b"/way/secret", os.O_RDONLY, 0),
        lambda: home.open(b"/way/new", CREATE, 0o644),
        lambda: home.remove(b"/way/secret"),
        lambda: home.make_folder(b"/way/d", 0o755),
        lambda: list(home.names(b"/way")),
        lambda: home.rename(b"/way/secret", b"/mine", replace=False),
    ):
        with failing(errno.EACCES, errno.ENOTDIR):
            call()
    assert [seen.path for seen in home.walk(b"/")] == []
    assert stat.S_ISLNK(home.stat(b"/link").st_mode)
    for path in (b"/link", b"/way", b"/pipe", b"/hard"):
        home.remove(path)
    assert (outside / "secret").read_text() == "no" and os.listdir(root) == []
    home.recount()
    assert home.usage == counted(home)


def test_modes_are_masked(home):
    home.make_folder(b"/d", 0o7022)
    file = home.open(b"/d/f", CREATE, 0o6777)
    assert file.stat().st_mode & 0o7777 == 0o755
    file.set_mode(0o7666)
    assert file.stat().st_mode & 0o7777 == 0o644
    file.close()
    assert home.stat(b"/d").st_mode & 0o7777 == 0o700
    home.set_mode(b"/d/f", 0)
    assert home.stat(b"/d/f").st_mode & 0o7777 == 0o400
    home.set_mode(b"/d", 0)
    assert home.stat(b"/d").st_mode & 0o7777 == 0o700
    home.set_mode(b"/", 0o777)
    assert os.stat(home.root).st_mode & 0o7777 == 0o700


def test_times_are_set(home):
    fill(home, b"/f", b"x")
    home.make_folder(b"/d", 0o755)
    for path in (b"/f", b"/d", b"/"):
        home.set_times(path, 10**9, 2 * 10**9)
        assert home.stat(path).st_mtime_ns == 2 * 10**9
    file = home.open(b"/f", os.O_WRONLY, 0)
    file.set_times(3 * 10**9, 4 * 10**9)
    assert home.stat(b"/f").st_atime_ns == 3 * 10**9
    file.close()
    with failing(errno.EINVAL):
        home.set_times(b"/f", 10**40, 10**40)


def test_nothing_grows_before_it_is_counted(tmp_path):
    home = home_of(tmp_path / "home", 1000, recount=False)
    with failing(errno.EAGAIN):
        home.open(b"/a", CREATE, 0o644)
    home.recount()
    fill(home, b"/a", b"x" * 1000)
    again = home_of(tmp_path / "home", 1000, recount=False)
    with failing(errno.EAGAIN):
        fill(again, b"/a", b"x" * 1001)
    assert again.recount() == (1000, 1000, 1)
    again.set_limit(10)
    with failing(errno.EDQUOT):
        fill(again, b"/a", b"x", offset=1000)
    fill(again, b"/a", b"y" * 1000)


def test_ten_writers_pass_the_limit_by_no_byte(home):
    def upload(number):
        file = home.open(b"/%d" % number, CREATE, 0o644)
        for place in range(0, 300_000, 777):
            try:
                file.write(place, b"x" * 777)
            except OSError as error:
                refused.append(error.errno)
                break
        files.append(file)

    refused, files = [], []
    threads = [threading.Thread(target=upload, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(refused) == {errno.EDQUOT}
    used = counted(home).used
    assert 1_000_000 - 777 < used <= 1_000_000 and home.usage.used == used
    for file in files:
        file.close()
    assert home.usage == counted(home)


def test_a_file_goes_only_as_it_was_seen_and_if_nobody_has_it_open(home):
    fill(home, b"/a", b"one")
    (seen,) = home.walk(b"/a")
    reader = home.open(b"/a", os.O_RDONLY, 0)
    assert not home.remove_if_same(seen)
    reader.close()
    for other in (seen._replace(size=4), seen._replace(inode=1), seen._replace(changed_ns=0)):
        assert not home.remove_if_same(other)
    assert not home.remove_if_same(seen._replace(path=b"/b"))
    assert home.remove_if_same(seen)
    assert not home.remove_if_same(seen)
    assert list(home.names(b"/")) == [] and home.usage == counted(home)


def test_use_after_close_touches_no_other_file(home):
    file = home.open(b"/a", CREATE, 0o644)
    file.close()
    other = home.open(b"/b", os.O_RDWR | os.O_CREAT, 0o644)
    for call in (lambda: file.write(0, b"x"), lambda: file.read(0, 1), file.stat, file.sync):
        with failing(errno.EBADF):
            call()
    assert other.read(0, 1) == b"" and home.usage == counted(home)
    other.close()


def test_a_write_that_comes_too_late_is_not_counted(home):
    """It had the descriptor when another thread closed the file."""
    file = home.open(b"/a", CREATE, 0o644)
    file.close()
    with failing(errno.EBADF):
        file._begin(0, 0, 10)
    assert home.usage.used == 0 and home._ledger.nodes == {}


def test_what_the_disk_refuses_is_not_counted_and_its_file_gone_at_close(home):
    file = home.open(b"/a", CREATE, 0o644)
    with file_size_limit(1000):
        file.write(0, b"x" * 600)
        with failing(errno.EFBIG):
            file.write(600, b"x" * 600)
        with failing(errno.EFBIG):
            file.truncate(2000)
    assert file.stat().st_size == home.usage.used == 1000
    file.close()
    assert list(home.names(b"/")) == [] and home.usage == counted(home)


def test_changes_are_told(home):
    def told(call):
        before = home.changes
        result = call()
        assert home.changes > before
        return result

    file = told(lambda: home.open(b"/a", CREATE, 0o644))
    told(lambda: file.write(0, b"x"))
    told(lambda: file.write(0, b"y"))
    told(lambda: file.truncate(0))
    told(lambda: file.set_times(1, 1))
    told(lambda: file.set_mode(0o600))
    told(file.close)
    told(lambda: home.set_times(b"/a", 1, 1))
    told(lambda: home.set_mode(b"/a", 0o644))
    told(lambda: home.rename(b"/a", b"/b", replace=False))
    told(lambda: home.make_folder(b"/d", 0o755))
    told(lambda: home.rename(b"/d", b"/e", replace=False))
    told(lambda: home.remove_folder(b"/e"))
    told(lambda: home.truncate(b"/b", 5))
    told(lambda: home.remove(b"/b"))
    told(home.recount)
    fill(home, b"/a", b"x")
    before = home.changes
    file = home.open(b"/a", os.O_RDONLY, 0)
    file.read(0, 1)
    file.close()
    home.stat(b"/a")
    assert home.changes == before


def test_a_home_that_was_taken_away_is_made_again(home):
    """As `rm -r` does it while the process runs: the next upload needs no restart."""
    home.make_folder(b"/d", 0o755)
    fill(home, b"/d/a", b"x" * 700_000)
    held = home.open(b"/b", CREATE, 0o644)
    held.write(0, b"y" * 1000)
    shutil.rmtree(home.root)
    fill(home, b"/new", b"z" * 900_000)
    assert stat.S_IMODE(os.stat(home.root).st_mode) == 0o700
    assert home.usage == (901_000, 1_000_000, 1), "what is open is on the disk until it is closed"
    held.write(1000, b"y")
    held.close()
    assert home.usage == counted(home) and home.entries == 1
    assert home.recount() == counted(home)


def test_a_home_that_was_taken_away_at_rest_is_made_again(home):
    """Disks give the number of a folder that is gone to the next one."""
    fill(home, b"/a", b"x" * 700_000)
    shutil.rmtree(home.root)
    fill(home, b"/new", b"z" * 900_000)
    assert home.usage == counted(home) == (900_000, 1_000_000, 1)


def test_a_home_that_was_replaced_is_counted_anew(home):
    fill(home, b"/a", b"x" * 700_000)
    os.rename(home.root, home.root + ".old")
    os.mkdir(home.root)
    with open(home.root + "/other", "wb") as file:
        file.write(b"o" * 5000)
    with failing(errno.EAGAIN):
        fill(home, b"/b", b"")
    home.count()
    fill(home, b"/b", b"z" * 900_000)
    assert home.usage == counted(home) == (905_000, 1_000_000, 2)


def test_a_home_is_not_made_where_its_disk_is_not(home, monkeypatch):
    """What is written below a mount that is away would be hidden once it is back."""
    shutil.rmtree(home.root)
    monkeypatch.setattr(home._rooted, "_disk", -1)
    with failing(errno.ENOENT, "another disk"):
        fill(home, b"/a", b"x")
    assert not os.path.exists(home.root)
    os.mkdir(home.root)
    with failing(errno.ENOENT, "another disk"):
        fill(home, b"/a", b"x")


def test_a_home_is_taken_away_while_it_is_counted(home, monkeypatch):
    fill(home, b"/a", b"x" * 700_000)
    find = home._ledger.find

    def taken(files, folders):
        find(files, folders)
        monkeypatch.undo()
        shutil.rmtree(home.root)
        fill(home, b"/b", b"y" * 1000)

    monkeypatch.setattr(home._ledger, "find", taken)
    home.recount()
    assert home.usage == counted(home) == (1000, 1_000_000, 1)


def test_a_home_is_taken_away_whatever_is_in_it(home, tmp_path):
    """Deeper than any path is long, and without rights; and nothing that a link leads to."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").write_text("x")
    os.symlink(tmp_path / "outside", home.root + "/link")
    home.make_folder(b"/d", 0o755)
    for _ in range(1500):
        home.make_folder(b"/above", 0o755)
        fill(home, b"/above/f", b"x")
        home.make_folder(b"/above/gone-1", 0o755)
        home.rename(b"/d", b"/above/d", replace=False)
        home.rename(b"/above", b"/d", replace=False)
    os.chmod(home.root + "/d", 0)
    fill(home, b"/gone-0", b"a file of the user")
    held = home.open(b"/gone-0", os.O_WRONLY, 0)
    home.remove_all()
    assert not os.path.exists(home.root) and (tmp_path / "outside/kept").exists()
    with failing(errno.ENOENT, "taken away"):
        fill(home, b"/late", b"x")
    held.close()
    assert not os.path.exists(home.root), "who is late makes nothing again"


def test_what_others_put_there_does_not_make_the_count_negative(tmp_path: Path) -> None:
    """As an operator who copies files in and has them stored and removed."""
    home = Folder(str(tmp_path / "home"), 1000)
    home.count()
    for name in ("a", "b/c"):
        (tmp_path / "home" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "home" / name).write_bytes(b"123")
    home.remove(b"/a")
    home.remove(b"/b/c")
    home.remove_folder(b"/b")
    assert (home.usage.files, home.usage.used, home.entries) == (0, 0, 0)
