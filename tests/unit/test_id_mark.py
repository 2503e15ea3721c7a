"""The mark of given ids: its bytes, torn and foreign ones, the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fakes.logs import file_size_limit
from zerostor.core.id_mark import MARK_FILE_SIZE, SLOT_SIZE, IdMark, encode_mark, newest_mark
from zerostor.core.limits import METADATA_ID_MAX
from zerostor.zdb.mark_file import AHEAD, MarkFile
from zerostor.zdb.positions import Position, Tip

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "id_mark.json").read_text())


def test_golden() -> None:
    mark = IdMark(**VECTOR["mark"])
    assert encode_mark(mark).hex() == VECTOR["hex"]
    assert newest_mark(bytes.fromhex(VECTOR["hex"])) == mark


def test_a_torn_or_damaged_slot_leaves_the_one_before() -> None:
    older, newer = IdMark(1, 6, 100, 0, 28), IdMark(1, 7, 200, 0, 90)
    raw = bytearray(MARK_FILE_SIZE)
    for mark in (older, newer):
        start = mark.serial % 2 * SLOT_SIZE
        raw[start : start + len(encode_mark(mark))] = encode_mark(mark)
    assert newest_mark(bytes(raw)) == newer
    for bit in range(len(encode_mark(newer)) * 8):
        damaged = bytearray(raw)
        damaged[SLOT_SIZE + bit // 8] ^= 1 << bit % 8
        assert newest_mark(bytes(damaged)) == older
    for size in range(SLOT_SIZE + len(encode_mark(newer))):
        assert newest_mark(bytes(raw[:size])) in (None, older)
    assert newest_mark(b"") is newest_mark(bytes(MARK_FILE_SIZE)) is None


def test_the_file(tmp_path: Path) -> None:
    marks = MarkFile(tmp_path, sync=True)
    marks.load()
    assert marks.known is None
    assert marks.beyond(5, Tip(3, 100, 28), doubtful=True) == (4, 0)
    for turn in range(5):
        marks.write(5, Position(3, 100 + turn), 1000 * turn)
    again = MarkFile(tmp_path, sync=True)
    again.load()
    assert again.known == marks.known == IdMark(5, 5, 4000 + AHEAD, 3, 104)
    assert again.covers(5, 3, 4000 + AHEAD)
    assert not again.covers(5, 3, 4001 + AHEAD)
    assert not again.covers(5, 4, 1)
    assert not again.covers(6, 3, 1)
    (tmp_path / "mark").unlink()
    again.write(5, Position(3, 200), METADATA_ID_MAX)
    assert again.known is not None
    assert again.known.never_given == METADATA_ID_MAX + 1


@pytest.mark.parametrize(("salt", "tip", "doubtful", "expected"), [
    (5, Tip(3, 104, 0), False, (4, 0)),
    (5, Tip(3, 500, 0), False, (4, 0)),
    (5, Tip(7, 28, 0), False, (8, 0)),
    (5, Tip(3, 104, 0), True, (4, 50 + AHEAD)),
    (5, Tip(3, 103, 0), False, (4, 50 + AHEAD)),
    (5, Tip(1, 900, 0), False, (4, 50 + AHEAD)),
    (5, Tip(-1, 0, 0), False, (4, 50 + AHEAD)),
    (6, Tip(0, 28, 0), True, (1, 0)),
    (None, Tip(-1, 0, 0), False, (0, 50 + AHEAD)),
])
def test_what_may_be_lost(
    tmp_path: Path, salt: int | None, tip: Tip, doubtful: bool, expected: tuple[int, int]
) -> None:
    marks = MarkFile(tmp_path, sync=False)
    marks.write(5, Position(3, 104), 50)
    assert marks.beyond(salt, tip, doubtful=doubtful) == expected


def test_a_mark_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    """After a failed write nothing is known of the file, and a full disk takes no other."""
    MarkFile(tmp_path, sync=False).write(5, Position(0, 100), 10)
    after_failure = MarkFile(tmp_path, sync=False)
    with file_size_limit(100), pytest.raises(OSError):
        after_failure.write(5, Position(0, 200), 20)
    found = MarkFile(tmp_path, sync=False)
    found.load()
    assert found.known is not None and found.known.never_given == 10 + AHEAD
    after_failure.write(5, Position(0, 200), 20)
    found.load()
    assert found.known is not None and found.known.never_given == 20 + AHEAD
