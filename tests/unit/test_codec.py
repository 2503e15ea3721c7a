"""Every way to run the code gives the bytes of zfec, and any `data` cells give back the rest.

tests/vectors/codec.json was written by zfec. To add a case, give it "data", "parity" and "cell"
there and run, from the top folder:

    python -c 'import tests.unit.test_codec as t; t.freeze()'

The stripe of a case is the first data * cell bytes of the extendable output of BLAKE3 over the text
"zerostor codec DATA+PARITY"; each parity cell is given by its BLAKE3-128, in hex.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import pytest
from blake3 import blake3

from zerostor import isal
from zerostor.core import arithmetic
from zerostor.core.arithmetic import Arithmetic, Buffer, Plain, Product, Zfec, agrees, portable
from zerostor.core.checksum import cell_checksum
from zerostor.core.codec import Codec
from zerostor.core.errors import ObjectUnreadable

VECTORS = Path(__file__).parent.parent / "vectors" / "codec.json"
ISAL = isal.load()
WAYS: list[Arithmetic] = [Plain()]
WAYS += [Zfec()] if arithmetic.zfec else []
WAYS += [ISAL] if ISAL else []
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: type(way).__name__)


def stripe_of(data: int, parity: int, cell: int) -> bytes:
    return blake3(f"zerostor codec {data}+{parity}".encode()).digest(data * cell)


def encoded(codec: Codec, cell: int) -> list[memoryview]:
    """All cells of a stripe."""
    stripe = stripe_of(codec.data, codec.parity, cell)
    parity = bytearray(codec.parity * cell)
    codec.encode(memoryview(stripe), memoryview(parity), cell)
    whole = memoryview(stripe + parity)
    return [whole[start : start + cell] for start in range(0, len(whole), cell)]


def rebuilt(codec: Codec, cells: Sequence[memoryview], have: Sequence[int]) -> list[bytearray]:
    """Every cell of the stripe, computed from those in `have`."""
    outputs = [bytearray(len(cells[0])) for _ in cells]
    codec.rebuild({index: cells[index] for index in have}, range(len(cells)), outputs)
    return outputs


def name_of(case: dict[str, int]) -> str:
    return f"{case['data']}+{case['parity']}x{case['cell']}"


def freeze() -> None:
    """Write the vectors anew, with zfec."""
    cases = json.loads(VECTORS.read_text())
    for case in cases:
        codec = Codec(case["data"], case["parity"], Zfec())
        cells = encoded(codec, case["cell"])[codec.data :]
        case["parity_blake3"] = [cell_checksum(cell).hex() for cell in cells]
    VECTORS.write_text(json.dumps(cases, indent=1) + "\n")


@every_way
@pytest.mark.parametrize("case", json.loads(VECTORS.read_text()), ids=name_of)
def test_parity_never_changes(way: Arithmetic, case: dict[str, int]) -> None:
    codec = Codec(case["data"], case["parity"], way)
    parity = encoded(codec, case["cell"])[codec.data :]
    assert [cell_checksum(cell).hex() for cell in parity] == case["parity_blake3"]


@pytest.mark.skipif(sys.platform != "linux", reason="pyeclib has wheels for Linux only")
def test_isal_is_found_in_the_wheel_and_says_what_it_is() -> None:
    assert ISAL is not None
    assert "pyeclib.libs" in ISAL.description
    assert "ISA-L 2." in ISAL.description


def test_finding_isal_does_not_import_pyeclib() -> None:
    check = "import sys, zerostor.isal as i; i.load(); assert 'pyeclib' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


@every_way
@pytest.mark.parametrize("cell", [*range(1, 70), 127, 128, 129, 191, 255, 257, 640, 4095, 65537])
def test_any_cell_length(way: Arithmetic, cell: int) -> None:
    codec = Codec(5, 3, way)
    cells = encoded(codec, cell)
    assert cells == encoded(Codec(5, 3, portable()), cell)
    assert rebuilt(codec, cells, (1, 3, 5, 6, 7)) == cells


@every_way
@pytest.mark.parametrize("code", [(1, 2), (2, 1), (3, 3), (4, 2), (1, 4), (5, 2)], ids=str)
def test_every_erasure_pattern_of_small_codes(way: Arithmetic, code: tuple[int, int]) -> None:
    codec = Codec(*code, way)
    cells = encoded(codec, 65)
    for have in combinations(range(sum(code)), codec.data):
        assert rebuilt(codec, cells, have) == cells


@every_way
def test_any_16_of_20(way: Arithmetic) -> None:
    codec = Codec(16, 4, way)
    cells = encoded(codec, 128)
    chance = random.Random(16)
    patterns = list(combinations(range(20), 16))
    for have in chance.sample(patterns, 60 if isinstance(way, Plain) else 600):
        assert rebuilt(codec, cells, have) == cells


@every_way
@pytest.mark.parametrize(
    "code", [(128, 128), (255, 1), (1, 255), (200, 56), (17, 6), (16, 7), (33, 9)], ids=str
)
def test_wide_codes(way: Arithmetic, code: tuple[int, int]) -> None:
    codec = Codec(*code, way)
    cells = encoded(codec, 67)
    assert cells == encoded(Codec(*code, portable()), 67)
    have = random.Random(1).sample(range(sum(code)), codec.data)
    assert rebuilt(codec, cells, have) == cells


@every_way
def test_replication_copies_and_a_code_without_parity_does_nothing(way: Arithmetic) -> None:
    assert len({bytes(cell) for cell in encoded(Codec(1, 5, way), 100)}) == 1
    for data in (1, 7, 256):
        codec = Codec(data, 0, way)
        cells = encoded(codec, 64)
        assert rebuilt(codec, cells, range(data)) == cells


@every_way
def test_data_cells_are_preferred_and_surplus_cells_ignored(way: Arithmetic) -> None:
    codec = Codec(3, 3, way)
    cells = encoded(codec, 64)
    wrong = memoryview(b"\xff" * 64)
    output = bytearray(64)
    codec.rebuild({5: wrong, 4: wrong, 2: cells[2], 0: cells[0], 3: cells[3]}, [1], [output])
    assert output == cells[1]


@every_way
def test_sources_may_be_read_only_and_lie_anywhere(way: Arithmetic) -> None:
    codec = Codec(2, 2, way)
    cells = [bytes(cell) for cell in encoded(codec, 101)]
    shifted = memoryview(b"odd" + cells[3])[3:]
    frame = bytearray(b"\x77" * 303)
    with memoryview(frame) as view:
        codec.rebuild({1: cells[1], 3: shifted}, [0], [view[101:202]])
    assert frame == b"\x77" * 101 + cells[0] + b"\x77" * 101


@every_way
def test_too_few_cells_is_an_error_of_the_data(way: Arithmetic) -> None:
    codec = Codec(4, 2, way)
    cells = dict(enumerate(encoded(codec, 64)[:3]))
    with pytest.raises(ObjectUnreadable, match="3 good cells, 4 are needed"):
        codec.rebuild(cells, [3], [bytearray(64)])


@pytest.mark.parametrize(("data", "parity"), [(0, 2), (-1, 4), (2, -1), (200, 57)])
def test_impossible_codes(data: int, parity: int) -> None:
    with pytest.raises(ValueError, match="no code"):
        Codec(data, parity)


@every_way
@pytest.mark.parametrize("sizes", [(255, 128, 64), (256, 127, 64), (192, 128, 64), (256, 128, 0)])
def test_sizes_that_do_not_fit_are_bugs(way: Arithmetic, sizes: tuple[int, int, int]) -> None:
    stripe, parity, cell = sizes
    with pytest.raises(ValueError, match="cell"):
        Codec(4, 2, way).encode(bytes(stripe), bytearray(parity), cell)


@every_way
def test_rebuild_refuses_what_does_not_fit(way: Arithmetic) -> None:
    codec = Codec(2, 1, way)
    good = bytes(64)
    for cells, missing, outputs in (
        ({0: good, 1: good}, [2], [bytearray(63)]),
        ({0: good, 1: good}, [2], []),
        ({0: good, 1: good}, [3], [bytearray(64)]),
        ({0: good, 3: good}, [1], [bytearray(64)]),
        ({0: good, 1: good}, [2, 2], [bytearray(64), bytearray(64)]),
        ({0: good, 1: bytes(63)}, [2], [bytearray(64)]),
        ({0: b"", 1: b""}, [2], [bytearray(64)]),
    ):
        with pytest.raises(ValueError, match="cell"):
            codec.rebuild(cells, missing, outputs)
    with pytest.raises((BufferError, TypeError)):
        codec.rebuild({0: good, 1: good}, [2], [good])
    codec.rebuild({0: good, 1: good}, [], [])


@every_way
def test_no_buffer_is_held_afterwards(way: Arithmetic) -> None:
    codec = Codec(2, 1, way)
    stripe, parity = bytearray(128), bytearray(64)
    codec.encode(stripe, parity, 64)
    with pytest.raises(ValueError, match="cell"):
        codec.encode(stripe, parity, 63)
    stripe.append(0)
    parity.append(0)


@every_way
def test_many_threads_share_a_codec(way: Arithmetic) -> None:
    codec = Codec(6, 3, way)
    cells = encoded(codec, 1000)
    patterns = list(combinations(range(9), 6))

    def work(seed: int) -> bool:
        chance = random.Random(seed)
        return all(
            rebuilt(codec, cells, chance.choice(patterns)) == cells
            and encoded(codec, 1000) == cells
            for _ in range(30)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


@pytest.mark.parametrize("way", WAYS[1:], ids=lambda way: type(way).__name__)
def test_encoding_lets_other_threads_run(way: Arithmetic) -> None:
    codec = Codec(4, 2, way)
    stripe, parity = bytes(4 << 18), bytearray(2 << 18)
    assert lets_others_run(lambda: codec.encode(stripe, parity, 1 << 18))


def test_plain_python_does_not_and_says_so() -> None:
    codec = Codec(4, 2, Plain())
    assert not lets_others_run(lambda: codec.encode(bytes(4), bytearray(2), 1))
    assert "never out of the interpreter lock" in (Plain.__doc__ or "")


def test_hashing_lets_other_threads_run() -> None:
    cell = bytes(1 << 20)
    assert lets_others_run(lambda: cell_checksum(cell))


def lets_others_run(work: Callable[[], object]) -> bool:
    """True if another thread gets a turn, which only `work` itself can give it."""
    ran = threading.Event()
    start = threading.Event()
    other = threading.Thread(target=lambda: (start.wait(), ran.set()))
    other.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        start.set()
        for _ in range(1000):
            work()
            if ran.is_set():
                return True
        return False
    finally:
        sys.setswitchinterval(interval)
        other.join()


class Liar:
    """Right, except for what `spoil` does to the output of some calls."""

    description = "liar"

    def __init__(self, spoil: Callable[[memoryview, int], None]) -> None:
        self.spoil = spoil

    def product(self, have: tuple[int, ...], want: tuple[int, ...]) -> Product:
        honest = portable().product(have, want)

        def run(sources: Sequence[Buffer], outputs: Sequence[Buffer], length: int) -> None:
            honest(sources, outputs, length)
            self.spoil(memoryview(outputs[-1]), length)

        return run


def flip_last_bit_of_odd_lengths(output: memoryview, length: int) -> None:
    if length % 16:
        output[-1] ^= 1


def write_behind(output: memoryview, length: int) -> None:
    behind = memoryview(output.obj)
    behind[output.nbytes] = 0


def forget_long_cells(output: memoryview, length: int) -> None:
    if length > 1000:
        output[-length:] = bytes(length)


@pytest.mark.parametrize("spoil", [flip_last_bit_of_odd_lengths, write_behind, forget_long_cells])
def test_arithmetic_that_lies_is_found_out(spoil: Callable[[memoryview, int], None]) -> None:
    assert agrees(Liar(lambda output, length: None))
    assert not agrees(Liar(spoil))


@pytest.mark.skipif(ISAL is None, reason="no libisal here")
def test_a_library_that_computes_another_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = isal.coefficients
    monkeypatch.setattr(isal, "coefficients", lambda have, want: right(have, want)[::-1])
    assert isal.load() is None


def test_files_that_are_no_libisal_are_passed_over(tmp_path: Path) -> None:
    text = tmp_path / "libisal.so.2"
    text.write_text("not a library")
    elsewhere = sys.modules["_ctypes"].__file__ or "missing"
    assert isal.load([str(tmp_path / "missing.so"), str(text), elsewhere]) is None
    assert isal.load([]) is None


def test_without_zfec_plain_python_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "zfec", None)
    codec = Codec(4, 2)
    assert codec.arithmetic.description == "plain Python"
    assert agrees(codec.arithmetic)
