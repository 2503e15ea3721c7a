"""Who computes cells from cells: the seam, two implementations, and a test for others.

zfec defines the code. Faster or plainer arithmetic is only another way to the same bytes, and
`agrees` is how anything that claims so is tried before it is trusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

from blake3 import blake3

from zerostor.core.galois import coefficients, scaling

try:
    import zfec
except ImportError:  # no wheel for this interpreter and no compiler: `Plain` takes its place
    zfec = None

Buffer: TypeAlias = bytes | bytearray | memoryview


class Product(Protocol):
    """Computes certain cells from certain others. Callable from many threads at once."""

    def __call__(
        self, sources: Sequence[Buffer], outputs: Sequence[Buffer], length: int
    ) -> None:
        """Fill the output cells.

        length: bytes of one cell, >= 1. Each buffer is contiguous and holds one cell or several
        in a row; together they are all source cells, or all output cells, in order. Outputs are
        writable and overlap nothing. Raises ValueError where the sizes do not fit.
        """


class Arithmetic(Protocol):
    """A way to run the code."""

    @property
    def description(self) -> str:
        """Name and version, for people."""

    def product(self, have: tuple[int, ...], want: tuple[int, ...]) -> Product:
        """The function from cells `have` (as many as data cells) to cells `want`; reusable.

        Both are distinct indexes below SHARDS_MAX.
        """


def cells_of(buffers: Sequence[Buffer], length: int, count: int) -> list[memoryview]:
    """The `count` cells that `buffers` hold. Raises ValueError if they hold another number."""
    cells: list[memoryview] = []
    for buffer in buffers:
        run = memoryview(buffer).cast("B")
        if length < 1 or run.nbytes % length:
            raise ValueError(f"{run.nbytes} bytes are not whole cells of {length}")
        cells += [run[start : start + length] for start in range(0, run.nbytes, length)]
    if len(cells) != count:
        raise ValueError(f"{len(cells)} cells where {count} belong")
    return cells


class Zfec:
    """The reference: 0.6 GB/s at 16+4, drops the interpreter lock while it computes."""

    @property
    def description(self) -> str:
        """Name and version."""
        return f"zfec {zfec.__version__}"

    def product(self, have: tuple[int, ...], want: tuple[int, ...]) -> Product:
        """As `Arithmetic` says."""
        # zfec writes past the end of its stack arrays when asked for a cell twice
        assert len(set(want)) == len(want)
        data = len(have)
        encoder = zfec.Encoder(data, max(*have, *want, 0) + 1)
        decoder = zfec.Decoder(data, max(*have, *want, 0) + 1)
        systematic = have == tuple(range(data))

        def run(sources: Sequence[Buffer], outputs: Sequence[Buffer], length: int) -> None:
            cells = cells_of(sources, length, data)
            targets = cells_of(outputs, length, len(want))
            if not systematic:
                cells = decoder.decode(cells, have)
            for target, cell in zip(targets, encoder.encode(cells, want), strict=True):
                target[:] = cell

        return run


class Plain:
    """Python alone: 0.2 GB/s at 16+4 and never out of the interpreter lock, but always there."""

    @property
    def description(self) -> str:
        """Name."""
        return "plain Python"

    def product(self, have: tuple[int, ...], want: tuple[int, ...]) -> Product:
        """As `Arithmetic` says."""
        weights = coefficients(have, want)

        def run(sources: Sequence[Buffer], outputs: Sequence[Buffer], length: int) -> None:
            cells = [bytes(cell) for cell in cells_of(sources, length, len(have))]
            for row, target in enumerate(cells_of(outputs, length, len(want))):
                total = 0
                for weight, cell in zip(weights[row * len(have) :], cells, strict=False):
                    total ^= int.from_bytes(cell.translate(scaling(weight)), "little")
                target[:] = total.to_bytes(length, "little")

        return run


def portable() -> Arithmetic:
    """What needs no library to be found: zfec, or Python where zfec is not installed."""
    return Plain() if zfec is None else Zfec()


# Few and small, so that every process can afford the test when it starts. The lengths sit around
# the vector widths of native code, the codes around the number of rows it takes at a time.
_TRIAL_CODES = ((1, 2), (3, 1), (4, 2), (10, 4), (16, 4), (5, 13))
_TRIAL_LENGTHS = (1, 15, 64, 65, 319, 1088)
_GUARD = 64


def _trials() -> Iterator[tuple[tuple[int, ...], tuple[int, ...], int]]:
    """(have, want, length): each code encoding, and rebuilding from all the parity it can use."""
    for data, parity in _TRIAL_CODES:
        every = tuple(range(data + parity))
        for length in _TRIAL_LENGTHS:
            yield every[:data], every[data:], length
            yield every[parity:], every[:parity], length


def agrees(arithmetic: Arithmetic) -> bool:
    """True if `arithmetic` gives the reference's bytes and writes nowhere else; takes ms."""
    reference = portable()
    for have, want, length in _trials():
        source = blake3(b"zerostor trial").digest(len(have) * length)
        expected = bytearray(len(want) * length)
        reference.product(have, want)([source], [expected], length)
        written = bytearray(b"\xa5") * (len(expected) + _GUARD)
        with memoryview(written) as view, view[: len(expected)] as output:
            arithmetic.product(have, want)([source], [output], length)
        if written != expected + b"\xa5" * _GUARD:
            return False
    return True
