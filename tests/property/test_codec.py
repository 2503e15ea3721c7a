"""For any code, cell length and survivors, all arithmetic agrees and gives every cell back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zerostor import isal
from zerostor.core import arithmetic
from zerostor.core.arithmetic import Arithmetic, Plain, Zfec
from zerostor.core.codec import Codec

ISAL = isal.load()
WAYS: list[Arithmetic] = [Plain()]
WAYS += [Zfec()] if arithmetic.zfec else []
WAYS += [ISAL] if ISAL else []


@given(st.data(), st.integers(1, 40), st.integers(0, 20), st.integers(1, 300))
def test_any_code_any_length_any_survivors(
    draws: st.DataObject, data: int, parity: int, cell: int
) -> None:
    stripe = draws.draw(st.randoms(use_true_random=False)).randbytes(data * cell)
    survivors = draws.draw(st.permutations(range(data + parity)))[:data]
    wanted = draws.draw(st.lists(st.sampled_from(range(data + parity)), unique=True))
    results = set()
    for way in WAYS:
        codec = Codec(data, parity, way)
        behind = bytearray(parity * cell)
        codec.encode(stripe, behind, cell)
        whole = memoryview(stripe + behind)
        cells = [whole[start : start + cell] for start in range(0, len(whole), cell)]
        outputs = [bytearray(cell) for _ in wanted]
        codec.rebuild({index: cells[index] for index in survivors}, wanted, outputs)
        assert outputs == [cells[index] for index in wanted]
        results.add(bytes(behind))
    assert len(results) == 1
