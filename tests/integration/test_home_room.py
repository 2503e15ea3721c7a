"""Room in a full home: the oldest files go, and only as many as have to."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from tests.fakes.homes import counted, failing, fill, home_of
from zerostor.homes import oldest


@pytest.fixture
def home(tmp_path):
    return home_of(tmp_path / "home", 1000)


def aged(home, path, size):
    """A file that is newer than all before it, and says of itself that it is older."""
    fill(home, path, b"x" * size)
    aged.claimed -= 10**9
    home.set_times(path, aged.claimed, aged.claimed)
    tick(home)


aged.claimed = 10**18


def tick(home):
    """Return when what is changed now has a later time than all there is."""
    probe = home.root + "/../probe"
    with open(probe, "w"):
        before = os.stat(probe).st_ctime_ns
        while os.stat(probe).st_ctime_ns == before:
            os.chmod(probe, 0o600)


def paths(home):
    return [seen.path for seen in home.walk(b"/")]


def test_the_oldest_go_and_no_more_than_that(home):
    home.make_folder(b"/d", 0o755)
    for path in (b"/c", b"/d/b", b"/a", b"/d/e"):
        aged(home, path, 250)
    gone = home.make_room(300)
    assert [(seen.path, seen.size) for seen in gone] == [(b"/c", 250), (b"/d/b", 250)]
    assert home.make_room(500) == [] and paths(home) == [b"/a", b"/d/e"]
    assert home.usage == counted(home)


def test_files_that_are_open_stay(home):
    aged(home, b"/old", 400)
    aged(home, b"/new", 400)
    reader = home.open(b"/old", os.O_RDONLY, 0)
    assert [seen.path for seen in home.make_room(500)] == [b"/new"]
    with failing(errno.EDQUOT):
        home.make_room(700)
    reader.close()
    assert [seen.path for seen in home.make_room(700)] == [b"/old"]


def test_what_another_program_has_open_stays(home):
    aged(home, b"/old", 400)
    aged(home, b"/new", 400)
    theirs = os.stat(home.root + "/old").st_ino
    for _ in range(2):
        with failing(errno.EDQUOT):
            home.make_room(700, {theirs})
    assert [seen.path for seen in home.make_room(500, {theirs})] == [b"/new"]
    assert [seen.path for seen in home.make_room(700)] == [b"/old"]


def test_what_is_preferred_goes_first(home, monkeypatch):
    for path in (b"/a", b"/b", b"/c", b"/d"):
        aged(home, path, 250)
    stored = {b"/b"}
    home.prefer(lambda seen: [one for one in seen if one.path in stored])
    assert [seen.path for seen in home.make_room(250)] == [b"/b"]
    aged(home, b"/e", 250)
    stored.add(b"/d")
    monkeypatch.setattr(oldest, "_ASKED_FOR", 0.0)
    assert [seen.path for seen in home.make_room(500)] == [b"/d", b"/a"], "what is left, by age"
    stored.add(b"/e")
    monkeypatch.setattr(oldest, "_KEPT", 1)
    aged(home, b"/f", 500)
    assert [seen.path for seen in home.make_room(100)] == [b"/e"], "it is asked again"


def test_what_is_read_as_a_whole_stays(home):
    home.make_folder(b"/d", 0o755)
    for path in (b"/d/a", b"/d/b", b"/dd"):
        aged(home, path, 300)
    with home.reading(b"/d"), home.reading(b"/d"):
        assert [seen.path for seen in home.make_room(200)] == [b"/dd"]
        for _ in range(2):
            with failing(errno.EDQUOT):
                home.make_room(800)
    with home.reading(b"/"), failing(errno.EDQUOT):
        home.make_room(800)
    assert [seen.path for seen in home.make_room(800)] == [b"/d/a", b"/d/b"]


def test_nothing_goes_where_it_would_not_be_enough(home):
    aged(home, b"/a", 400)
    aged(home, b"/b", 400)
    os.link(home.root + "/a", home.root + "/outside")
    home.recount()
    for wanted in (700, 1001, 700):
        with failing(errno.EDQUOT, f"{wanted:,}"):
            home.make_room(wanted)
    assert home.usage.used == 800
    home.remove(b"/outside")
    assert len(home.make_room(700)) == 2


def test_the_list_is_kept_and_keeps_up(home, monkeypatch):
    for number in range(10):
        aged(home, b"/%d" % number, 100)
    assert [seen.path for seen in home.make_room(100)] == [b"/0"]
    monkeypatch.setattr(oldest, "batches", None)
    home.rename(b"/1", b"/moved", replace=False)
    home.set_times(b"/9", 0, 5 * 10**9)
    fill(home, b"/2", b"y" * 100)
    home.remove(b"/3")
    for path in (b"/4", b"/5", b"/6", b"/7", b"/8"):
        gone = home.make_room(home.usage.limit - home.usage.used + 1)
        assert [seen.path for seen in gone] == [path]
    assert paths(home) == [b"/2", b"/9", b"/moved"]
    monkeypatch.undo()
    aged(home, b"/last", 100)
    gone = home.make_room(home.usage.limit - 100)
    assert {seen.path for seen in gone} == {b"/2", b"/9", b"/moved"}, "what changed is not lost"
    assert paths(home) == [b"/last"]


@pytest.mark.parametrize(("kept", "most"), [(1, 1), (1, 100), (3, 4)])
def test_more_go_than_are_remembered(home, monkeypatch, kept, most):
    monkeypatch.setattr(oldest, "_KEPT", kept)
    monkeypatch.setattr(oldest, "_MOST", most)
    order = [b"/%d" % number for number in (7, 2, 9, 4, 0, 8, 1, 3, 6, 5)]
    for path in order:
        aged(home, path, 100)
    gone = home.make_room(750)
    assert [seen.path for seen in gone] == order[:8]
    assert set(paths(home)) == set(order[8:])


def test_what_came_behind_our_back_is_found_after_a_recount(home):
    older = home.root + "/../older"
    with open(older, "w") as file:
        file.write("x" * 400)
    tick(home)
    for path in (b"/a", b"/b", b"/c"):
        aged(home, path, 200)
    assert [seen.path for seen in home.make_room(500)] == [b"/a"]
    os.mkdir(home.root + "/d")
    os.rename(older, home.root + "/d/older")
    os.chmod(home.root + "/b", 0o600)
    home.recount()
    assert [seen.path for seen in home.make_room(300)] == [b"/c"]
    assert [seen.path for seen in home.make_room(700)] == [b"/d/older"]


def test_a_file_that_was_written_since_is_not_old_any_more(home):
    aged(home, b"/a", 400)
    aged(home, b"/b", 400)
    home.make_room(200)
    home.make_room(0)
    tick(home)
    fill(home, b"/a", b"new")
    assert [seen.path for seen in home.make_room(300)] == [b"/b"]


def test_what_went_is_told_though_somebody_took_the_room(home, monkeypatch):
    aged(home, b"/a", 500)
    aged(home, b"/b", 500)
    genuine = home._oldest._remove

    def greedy(file):
        gone = genuine(file)
        taken.append(home.open(b"/taken", os.O_WRONLY | os.O_CREAT, 0o644))
        taken[-1].write(0, b"x" * (1000 - home.usage.used))
        return gone

    taken = []
    monkeypatch.setattr(home._oldest, "_remove", greedy)
    assert [seen.path for seen in home.make_room(600)] == [b"/a", b"/b"]
    with failing(errno.EDQUOT):
        home.make_room(600)
    for file in taken:
        file.close()


def test_many_make_room_at_once(home):
    """Writers of a home that drops its oldest: each gets its bytes in, and the limit holds."""

    def write(number):
        for turn in range(30):
            path = b"/%d-%d" % (number, turn)
            file = home.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
            for _ in range(100):
                try:
                    file.write(0, b"x" * 150)
                    break
                except OSError as error:
                    assert error.errno == errno.EDQUOT
                    gone.extend(seen.path for seen in home.make_room(150))
            assert home.usage.used <= 1000
            file.close()
            written.append(path)

    gone, written = [], []
    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 120 and len(gone) == len(set(gone))
    assert {*gone, *paths(home)} == set(written)
    assert home.usage == counted(home)


def test_what_is_set_aside_is_free_for_nobody_else(home):
    fill(home, b"/a", b"x" * 300)
    assert home.set_aside(500) == 500
    assert home.usage.used == 300
    with pytest.raises(OSError) as caught:
        fill(home, b"/b", b"x" * 201)
    assert caught.value.errno == errno.EDQUOT
    fill(home, b"/b", b"x" * 200)
    assert [seen.path for seen in home.make_room(1)] == [b"/a"]
    assert home.set_aside(10_000) == 800
    assert home.set_aside(0) == 0
    fill(home, b"/c", b"x" * 800)
