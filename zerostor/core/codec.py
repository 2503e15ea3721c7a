"""Stripe to parity, and any `data` cells back to all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from zerostor.core.arithmetic import Arithmetic, Buffer, Product, portable
from zerostor.core.errors import ObjectUnreadable
from zerostor.core.limits import SHARDS_MAX

_CACHE_BYTES = 4 * 1024 * 1024
_COEFFICIENT_BYTES = 32
"""What native code keeps per coefficient at most; the patterns kept are bounded by it."""


class Codec:
    """One erasure code, `data` + `parity` cells a stripe. Callable from many threads at once.

    Replication is data = 1: each parity cell is a copy. Everything here is synchronous; ISA-L and
    zfec drop the interpreter lock while they compute, and all arithmetic gives the same bytes.
    """

    def __init__(self, data: int, parity: int, arithmetic: Arithmetic | None = None) -> None:
        """arithmetic: None for the portable one. Raises ValueError unless 1 <= data, 0 <= parity
        and both together are at most SHARDS_MAX."""
        if data < 1 or parity < 0 or data + parity > SHARDS_MAX:
            raise ValueError(f"no code has {data} + {parity} cells")
        self.data = data
        self.parity = parity
        self.arithmetic = arithmetic or portable()
        self._every = tuple(range(data + parity))
        patterns = _CACHE_BYTES // (_COEFFICIENT_BYTES * data * max(parity, 1))
        self._product = lru_cache(max(8, min(1024, patterns)))(self.arithmetic.product)
        self._encode: Product = self._product(self._every[:data], self._every[data:])

    def encode(self, stripe: Buffer, parity: Buffer, cell: int) -> None:
        """Compute the parity of a stripe.

        stripe: data * cell bytes, the data cells one after the other. parity: parity * cell bytes,
        writable, filled likewise. cell: bytes >= 1; multiples of 64 run fastest.
        """
        if self.parity:
            self._encode([stripe], [parity], cell)

    def rebuild(
        self, cells: Mapping[int, Buffer], missing: Sequence[int], outputs: Sequence[Buffer]
    ) -> None:
        """Compute the cells `missing`, data or parity, from any `data` others.

        cells: index -> cell, all of one length, each verified already; data cells are preferred.
        missing: distinct. outputs: a writable cell for each of them.
        Raises ObjectUnreadable if there are too few cells.
        """
        if len(cells) < self.data:
            raise ObjectUnreadable(f"{len(cells)} good cells, {self.data} are needed")
        wanted = set(missing)
        if len(wanted) != len(missing) or not wanted.union(cells).issubset(self._every):
            raise ValueError(f"cell indexes are distinct and below {len(self._every)}")
        if not wanted:
            return
        have = tuple(sorted(cells)[: self.data])
        sources = [cells[index] for index in have]
        self._product(have, tuple(missing))(sources, outputs, memoryview(sources[0]).nbytes)
