"""Byte layout of the log and the walker: golden file, every cut, every bit."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from zerostor.core import log_walk
from zerostor.core.errors import SetupError
from zerostor.core.log_format import (
    FILE_HEADER_SIZE,
    FLAG_CONTROL,
    FLAG_DELETED,
    FLAG_UPDATE,
    Entry,
    FileHeader,
    Mode,
    decode_file_header,
    encode_entry_head,
    encode_file_header,
    entry_is_sound,
    entry_seed,
    width_fits,
)
from zerostor.core.log_walk import Damage, Found, LogWalker
from zerostor.zdb.positions import Epoch, Position, decode_epoch


def id8(key: int) -> bytes:
    return key.to_bytes(8, "little")


VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "log.json").read_text())
FILE = bytes.fromhex(VECTOR["file"])
SALT = VECTOR["header"]["salt"]
ENTRIES = [
    Entry(row["offset"], id8(row["key"]), row["flags"], row["stamp"], len(row["payload"]) // 2)
    for row in VECTOR["entries"]
]
ENDS = [*(entry.offset for entry in ENTRIES[1:]), len(FILE)]


def walk(raw: bytes, step: int = 10**9, salt: int = SALT) -> tuple[list[Found], int | None]:
    """Walk a whole file fed in pieces of `step` bytes."""
    walker = LogWalker(salt, 8)
    found: list[Found] = []
    for start in range(FILE_HEADER_SIZE, len(raw), step):
        found += walker.feed(raw[start : start + step])
    rest, torn = walker.finish()
    return found + rest, torn


def flip(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_the_golden_file_byte_by_byte() -> None:
    head = {name: value for name, value in VECTOR["header"].items() if name != "hex"}
    assert FILE[:28].hex() == VECTOR["header"]["hex"]
    assert encode_file_header(FileHeader(**head, version=1)) == FILE[:28]
    # The same once more with nothing but struct and zlib, as another implementation would.
    assert struct.unpack("<4sHBBIIIII", FILE[:28])[:7] == (b"ZLG1", 1, 1, 8, 1700000000, SALT, 40)
    for row, end in zip(VECTOR["entries"], ENDS, strict=True):
        raw, payload = FILE[row["offset"] : end], bytes.fromhex(row["payload"])
        width, length, previous, crc, flags, stamp = struct.unpack("<BIIIBI", raw[:18])
        assert (width, length, previous) == (8, len(payload), row["previous"])
        assert (flags, stamp) == (row["flags"], row["stamp"])
        assert raw[18:] == row["key"].to_bytes(8, "little") + payload
        assert f"{crc:08x}" == row["crc"]
        covered = raw[:9] + raw[13:]
        assert zlib.crc32(covered, (SALT + row["offset"]) & 0xFFFFFFFF) == crc
        assert raw[:26] == encode_entry_head(
            raw[18:26], payload, previous=previous, flags=flags, stamp=stamp,
            seed=entry_seed(SALT, row["offset"]),
        )


@pytest.mark.parametrize("step", [1, 2, 7, 26, 10**6])
def test_the_golden_file_walks_whole_however_it_is_fed(step: int) -> None:
    assert walk(FILE, step) == (list(ENTRIES), None)


def test_a_header_survives_one_flipped_bit() -> None:
    header = decode_file_header(FILE)
    assert header == FileHeader(3, 8, 1700000000, SALT, 40, version=1)
    for bit in range(28 * 8):
        assert decode_file_header(flip(FILE[:28], bit)) == header


def test_headers_that_are_none() -> None:
    assert decode_file_header(b"") is None
    assert decode_file_header(FILE[:27]) is None
    assert decode_file_header(bytes(28)) is None
    assert decode_file_header(b"DAT0" + FILE[4:28]) is None


def test_a_newer_version_is_refused_not_repaired() -> None:
    newer = bytearray(FILE[:28])
    newer[4] = 3
    newer[20:24] = zlib.crc32(bytes(newer[:20] + newer[24:])).to_bytes(4, "little")
    with pytest.raises(SetupError, match="version 3"):
        decode_file_header(bytes(newer))


def test_an_entry_is_sound_at_its_own_offset_of_its_own_log_only() -> None:
    raw = FILE[ENTRIES[1].offset : ENDS[1]]
    assert entry_is_sound(raw, entry_seed(SALT, ENTRIES[1].offset))
    assert not entry_is_sound(raw, entry_seed(SALT, ENTRIES[1].offset + 1))
    assert not entry_is_sound(raw, entry_seed(SALT + 1, ENTRIES[1].offset))


@pytest.mark.parametrize("size", range(FILE_HEADER_SIZE, len(FILE)))
def test_a_cut_anywhere_is_a_torn_tail(size: int) -> None:
    whole = [entry for entry, end in zip(ENTRIES, ENDS, strict=True) if end <= size]
    end = ENDS[len(whole) - 1] if whole else FILE_HEADER_SIZE
    assert walk(FILE[:size]) == (whole, end if size > end else None)
    assert walk(FILE[:size], 3) == (whole, end if size > end else None)


@pytest.mark.parametrize("position", range(len(ENTRIES)))
def test_each_flipped_bit_costs_that_entry_only_and_names_its_id(position: int) -> None:
    hit = ENTRIES[position]
    others = [entry for entry in ENTRIES if entry is not hit]
    for bit in range(hit.offset * 8, ENDS[position] * 8):
        found, torn = walk(flip(FILE, bit), 10**6 if bit % 8 else 37)
        assert torn is None
        assert [item for item in found if isinstance(item, Entry)] == others
        (damage,) = [item for item in found if isinstance(item, Damage)]
        assert damage[:3] == (hit.offset, ENDS[position], hit.key)
        assert found.index(damage) == position
        in_head = bit < (hit.offset + 26) * 8
        assert damage.certain == in_head


def test_two_damaged_entries_in_a_row() -> None:
    raw = bytearray(FILE)
    raw[ENTRIES[1].offset + 26] ^= 1
    raw[ENTRIES[2].offset + 30] ^= 1
    found, torn = walk(bytes(raw))
    assert torn is None
    assert found == [
        ENTRIES[0], Damage(ENTRIES[1].offset, ENTRIES[3].offset, None, False), *ENTRIES[3:],
    ]


def test_zeros_at_the_end_are_torn() -> None:
    """A file that grew before its bytes reached the disk."""
    assert walk(FILE + bytes(300)) == (list(ENTRIES), len(FILE))


def test_garbage_of_any_length_at_the_end_is_torn() -> None:
    garbage = bytes(range(1, 256)) * 3
    for size in range(1, 300):
        assert walk(FILE + garbage[:size], 64) == (list(ENTRIES), len(FILE))


def test_a_payload_that_imitates_entries_is_not_taken_for_one() -> None:
    """Even whole copies of the log inside a value stay a value when the entry around is damaged."""
    start = ENDS[-1]
    fake = bytearray()
    for number in range(50):
        fake += encode_entry_head(
            (7).to_bytes(8, "little"), b"evil", previous=start, flags=FLAG_UPDATE, stamp=1,
            seed=entry_seed(number, start + 26 + len(fake)),
        ) + b"evil"
    payload = bytes(fake) + FILE
    outer = encode_entry_head((44).to_bytes(8, "little"), payload, previous=ENTRIES[-1].offset,
                              flags=0, stamp=1, seed=entry_seed(SALT, start)) + payload
    last = encode_entry_head((45).to_bytes(8, "little"), b"good", previous=start, flags=0, stamp=1,
                             seed=entry_seed(SALT, start + len(outer))) + b"good"
    raw = FILE + outer + last
    found, _ = walk(flip(raw, start * 8))
    assert [item.key for item in found] == list(map(id8, [40, 41, 40, 41, 43, 44, 45]))
    assert isinstance(found[5], Damage)
    found, torn = walk(raw[: start + len(outer) - 1])
    assert found == list(ENTRIES)
    assert torn == start


def test_the_search_behind_damage_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hostile payloads must not make a start take for ever; what is given up on is not cut off."""
    monkeypatch.setattr(log_walk, "SEEK_BUDGET", 10_000)
    start = ENDS[-1]
    lure = struct.pack("<BIIIBI", 8, 5000, start, 0, 0, 0)
    found, torn = walk(FILE + b"\xff" + lure * 1000)
    assert torn is None
    assert found[-1] == Damage(start, start + 1 + len(lure) * 1000, None, False)


def test_damage_larger_than_any_entry_keeps_memory_bounded() -> None:
    walker = LogWalker(SALT, 8)
    found = walker.feed(FILE[FILE_HEADER_SIZE:])
    for _ in range(20):
        found += walker.feed(b"\x08" * 2**20)
        assert walker._held <= 2**24
    rest, torn = walker.finish()
    assert torn is None
    assert found + rest == [*ENTRIES, Damage(len(FILE), len(FILE) + 20 * 2**20, None, False)]


@pytest.mark.parametrize("vector", VECTOR["version2"], ids=["sequential", "user keys"])
class TestVersion2:
    """Files of this version: control entries, given ids, users' keys."""

    def parts(
        self, vector: dict[str, Any]
    ) -> tuple[bytes, int, int | None, list[Entry], list[int]]:
        raw, head = bytes.fromhex(vector["file"]), vector["header"]
        entries = [
            Entry(row["offset"], bytes.fromhex(row["key"]), row["flags"], row["stamp"],
                  len(row["payload"]) // 2)
            for row in vector["entries"]
        ]
        ends = [*(entry.offset for entry in entries[1:]), len(raw)]
        return raw, head["salt"], 8 if head["mode"] else None, entries, ends

    def walk(
        self, raw: bytes, salt: int, width: int | None, step: int = 10**9
    ) -> tuple[list[Found], int | None]:
        walker, found = LogWalker(salt, width), list[Found]()
        for start in range(FILE_HEADER_SIZE, len(raw), step):
            found += walker.feed(raw[start : start + step])
        rest, torn = walker.finish()
        return found + rest, torn

    def test_the_golden_file_byte_by_byte(self, vector: dict[str, Any]) -> None:
        raw, salt, _, entries, ends = self.parts(vector)
        head = {name: value for name, value in vector["header"].items() if name != "hex"}
        header = FileHeader(**{**head, "mode": Mode(head["mode"])})
        assert decode_file_header(raw) == header
        assert encode_file_header(header) == raw[:FILE_HEADER_SIZE]
        for entry, end, row in zip(entries, ends, vector["entries"], strict=True):
            payload = bytes.fromhex(row["payload"])
            head_of = encode_entry_head(
                entry.key, payload, previous=row["previous"], flags=entry.flags,
                stamp=entry.stamp, seed=entry_seed(salt, entry.offset),
            )
            assert raw[entry.offset : end] == head_of + payload
        epochs = [row for row in vector["entries"] if row["flags"] == FLAG_CONTROL]
        at = Position(header.number, epochs[0]["offset"])
        found = decode_epoch(bytes.fromhex(epochs[0]["payload"]), at)
        assert found == (Epoch(3, bytes(range(16)), "promoted", at) if head["mode"] else None)

    @pytest.mark.parametrize("step", [1, 7, 10**6])
    def test_it_walks_whole_however_it_is_fed(self, vector: dict[str, Any], step: int) -> None:
        raw, salt, width, entries, _ = self.parts(vector)
        assert self.walk(raw, salt, width, step) == (entries, None)

    def test_a_cut_anywhere_is_a_torn_tail(self, vector: dict[str, Any]) -> None:
        raw, salt, width, entries, ends = self.parts(vector)
        for size in range(FILE_HEADER_SIZE, len(raw)):
            whole = [entry for entry, end in zip(entries, ends, strict=True) if end <= size]
            end = ends[len(whole) - 1] if whole else FILE_HEADER_SIZE
            assert self.walk(raw[:size], salt, width) == (whole, end if size > end else None)

    def test_each_flipped_bit_costs_that_entry_only_and_names_its_key(
        self, vector: dict[str, Any]
    ) -> None:
        raw, salt, width, entries, ends = self.parts(vector)
        for position, (hit, end) in enumerate(zip(entries, ends, strict=True)):
            others = [entry for entry in entries if entry is not hit]
            for bit in range(hit.offset * 8, end * 8):
                found, torn = self.walk(flip(raw, bit), salt, width)
                assert torn is None
                damage = found.pop(position)
                assert found == others
                assert isinstance(damage, Damage)
                assert damage[:3] == (hit.offset, end, hit.key)
                assert damage.certain == (bit < (hit.offset + 18 + len(hit.key)) * 8)


def test_entries_have_the_width_of_their_kind() -> None:
    assert width_fits(8, 0, 8)
    assert not width_fits(4, 0, 8)
    assert not width_fits(0, 0, 8)
    assert width_fits(0, FLAG_CONTROL, 8)
    assert not width_fits(8, FLAG_CONTROL, 8)
    assert not width_fits(0, FLAG_CONTROL | FLAG_DELETED, None)
    assert width_fits(255, 0, None)
    assert not width_fits(0, 0, None)


def test_flags_are_those_of_0_db_where_it_has_them() -> None:
    assert (FLAG_DELETED, FLAG_UPDATE) == (1, 2)
