"""The link of nodes in bytes: vectors, and the firmware held to them on both Pythons."""

from __future__ import annotations

import hmac
import json
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest

from tests.fakes.firmware_here import imported
from tests.fakes.node_vectors import vectors
from tests.fakes.wire_check import Line, check, check_secrets
from tests.tidy.source_tree import ROOT
from zerostor.nodes.emulator import micropython

PATH = ROOT / "tests/vectors/node_link.json"
VECTORS = json.loads(PATH.read_text())


@pytest.fixture
def app() -> Iterator[tuple[ModuleType, ModuleType]]:
    with imported("app.wire", "app.link") as (wire, link):
        yield wire, link


def test_the_vectors_are_what_the_text_of_the_protocol_gives() -> None:
    assert json.loads(json.dumps(vectors())) == VECTORS


def test_the_firmware_keeps_to_them_on_cpython(app: tuple[Any, Any]) -> None:
    wire, link = app
    assert check(wire, link.Link(), VECTORS) == 38


@pytest.mark.skipif(find_spec("micropython_run") is None, reason="no MicroPython here")
def test_the_firmware_keeps_to_them_on_micropython() -> None:
    script = str(ROOT / "tests/fakes/wire_check.py")
    found = subprocess.run(
        micropython("512wK", script, str(ROOT / "firmware"), str(PATH)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.stdout == "38\n", found.stdout + found.stderr


def test_every_flipped_bit_ends_the_link(app: tuple[Any, Any]) -> None:
    wire, link = app
    good = bytes.fromhex(next(e for e in VECTORS["frames"] if e["type"] == "READY")["frame"])
    for bit in range(len(good) * 8):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        made = link.Link()
        made.attach(Line(bytes(bad)))
        made.sealed = check_secrets(wire, VECTORS)
        with pytest.raises(link.LinkBroken):
            made.receive()


def test_a_frame_counts_once(app: tuple[Any, Any]) -> None:
    wire, link = app
    good = bytes.fromhex(VECTORS["frames"][0]["frame"])
    made = link.Link()
    made.attach(Line(good + good))
    made.sealed = check_secrets(wire, VECTORS)
    assert made.receive() == (wire.READY, 0)
    with pytest.raises(link.LinkBroken, match="tag"):
        made.receive()


@pytest.mark.parametrize("head", ["10000001", "1001", "1000ffff", "10001041"])
def test_a_header_that_is_none_ends_the_link(app: tuple[Any, Any], head: str) -> None:
    made = app[1].Link()
    made.attach(Line(bytes.fromhex(head.ljust(16, "0"))))
    with pytest.raises(app[1].LinkBroken):
        made.receive()


@pytest.mark.parametrize(
    "payload", ["", "01" * 51, "01" * 53, "02" + "00" * 16 + "000a00" + "00" * 32, "01" + "00" * 51]
)
def test_a_challenge_that_is_none(app: tuple[Any, Any], payload: str) -> None:
    with pytest.raises(ValueError, match="challenge"):
        app[0].challenge(bytes.fromhex(payload))


def test_hmac_is_hmac(app: tuple[Any, Any]) -> None:


    for length in (0, 1, 32, 64, 65, 200):
        key = bytes(range(length))
        expected = hmac.new(key, b"one" + b"two", "sha256").digest()
        assert app[0].Hmac(key).digest(b"one", b"two") == expected


