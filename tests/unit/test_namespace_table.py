"""The list of namespaces: golden bytes, damage, and passwords that belong to it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from zerostor.core.errors import LogCorrupt
from zerostor.core.namespace_table import (
    NamespaceRow,
    NamespaceTable,
    decode_table,
    encode_table,
)
from zerostor.zdb.castagnoli import crc32c
from zerostor.zdb.passwords import KEY_FILE, PASSWORD_MAX, Vault, proof

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "namespaces.json").read_text())
TABLE = NamespaceTable(
    9,
    (
        NamespaceRow(0, b"default", "user"),
        NamespaceRow(
            8, b"\xff\x00/..", "seq", 2**63, b"sealed", public=False, worm=True, locked=True,
            frozen=True,
        ),
    ),
)


def test_golden_bytes() -> None:
    raw = bytes.fromhex(VECTOR["hex"])
    assert encode_table(TABLE, VECTOR["serial"]) == raw
    assert decode_table(raw) == (VECTOR["serial"], TABLE)


def test_every_flipped_bit_and_every_cut_is_seen() -> None:
    raw = encode_table(TABLE, 3)
    for position in range(len(raw)):
        with pytest.raises(LogCorrupt):
            decode_table(raw[:position])
        for bit in range(8):
            broken = bytearray(raw)
            broken[position] ^= 1 << bit
            with pytest.raises(LogCorrupt):
                decode_table(bytes(broken))


def test_a_sealed_password_shows_nothing_of_itself(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    assert vault.reveal(bytes(105)) is None
    sealed = [vault.seal(password) for password in (b"", b"short", b"x" * PASSWORD_MAX)]
    assert len({len(each) for each in sealed}) == 1
    assert vault.seal(b"short") != sealed[1]
    again = Vault(tmp_path)
    assert [again.reveal(each) for each in sealed] == [b"", b"short", b"x" * PASSWORD_MAX]
    assert again.reveal(sealed[1][:-1] + bytes([sealed[1][-1] ^ 1])) is None
    assert again.reveal(b"") is None
    (tmp_path / KEY_FILE).write_bytes(bytes(5))
    assert Vault(tmp_path).reveal(sealed[1]) is None
    with pytest.raises(OSError, match="no key"):
        Vault(tmp_path).seal(b"x")


def test_the_proof_and_the_checksum_are_those_of_0_db() -> None:
    assert proof(b"nonce", b"pw") == hashlib.sha1(b"nonce:pw").hexdigest().encode()
    assert crc32c(b"123456789") == 0x58E3FA20
    assert crc32c(b"hello") == 0xDF03CD79
    assert crc32c(b"6789", crc32c(b"1234")) != crc32c(b"123456789")
    assert crc32c(b"56789", crc32c(b"1234")) == 0x58E3FA20
    assert crc32c(b"") == 0
