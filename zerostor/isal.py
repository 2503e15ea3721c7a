"""ISA-L runs the code at tens of GB/s. Found, tried against the reference, and only then used.

Source: isa-l erasure_code.h, `ec_init_tables` and `ec_encode_data`: outputs = coefficients x
sources over GF(2^8) with polynomial 0x11d, the field of zfec.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from zerostor.core.arithmetic import Buffer, Product, agrees
from zerostor.core.galois import coefficients

_SYSTEM_NAMES = (
    ("libisal.2.dylib", "/opt/homebrew/lib/libisal.2.dylib")
    if sys.platform == "darwin"
    else ("libisal.so.2",)
)
_TABLE_BYTES = 32
_LENGTH_MAX = 2**31 - 1


class _View(ctypes.Structure):
    """CPython's Py_buffer, of which the layout is fixed since 3.11 (PEP 3118, stable ABI)."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


_READ = 0
_WRITE = 1
_hold = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(_View), ctypes.c_int)(
    ("PyObject_GetBuffer", ctypes.pythonapi)
)
_release = ctypes.PYFUNCTYPE(None, ctypes.POINTER(_View))(("PyBuffer_Release", ctypes.pythonapi))


class _Views:
    """Addresses of buffers, read-only ones too, that cannot move or go away until released."""

    def __init__(self) -> None:
        self._held: list[_View] = []

    def __enter__(self) -> _Views:
        return self

    def __exit__(self, *_: object) -> None:
        for view in self._held:
            _release(view)

    def cells(
        self, buffers: Sequence[Buffer], flags: int, length: int, count: int
    ) -> ctypes.Array[ctypes.c_void_p]:
        """Addresses of the `count` cells that `buffers` hold."""
        addresses: list[int] = []
        for buffer in buffers:
            view = _View()
            _hold(buffer, view, flags)
            self._held.append(view)
            if view.len % length:
                raise ValueError(f"{view.len} bytes are not whole cells of {length}")
            addresses += range(view.buf, view.buf + view.len, length) if view.len else ()
        if len(addresses) != count:
            raise ValueError(f"{len(addresses)} cells where {count} belong")
        return (ctypes.c_void_p * count)(*addresses)


class Isal:
    """The Arithmetic of a loaded libisal. Its calls drop the interpreter lock."""

    def __init__(self, library: ctypes.CDLL, path: str) -> None:
        """Raises AttributeError if `library` lacks what is needed."""
        self._tables = library.ec_init_tables
        self._tables.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]
        self._tables.restype = None
        self._encode = library.ec_encode_data
        self._encode.argtypes = [ctypes.c_int] * 3 + [ctypes.c_void_p] * 3
        self._encode.restype = None
        self.description = f"ISA-L {_version(library)} ({path})"

    def product(self, have: tuple[int, ...], want: tuple[int, ...]) -> Product:
        """As `Arithmetic` says."""
        encode, k, rows = self._encode, len(have), len(want)
        tables = ctypes.create_string_buffer(_TABLE_BYTES * k * rows)
        self._tables(k, rows, coefficients(have, want), tables)

        def run(sources: Sequence[Buffer], outputs: Sequence[Buffer], length: int) -> None:
            if not 1 <= length <= _LENGTH_MAX:
                raise ValueError(f"a cell has 1 to {_LENGTH_MAX} bytes, not {length}")
            with _Views() as views:
                cells = views.cells(sources, _READ, length, k)
                targets = views.cells(outputs, _WRITE, length, rows)
                encode(length, k, rows, tables, cells, targets)

        return run


def load(paths: Sequence[str] | None = None) -> Isal | None:
    """The first libisal that loads and agrees with the reference, None if there is no such.

    paths: where to look; by default pyeclib's wheel, which ships a recent one, then the system's.
    """
    for path in _candidates() if paths is None else paths:
        try:
            isal = Isal(ctypes.CDLL(path), path)
        except (OSError, AttributeError):
            continue
        if agrees(isal):
            return isal
    return None


def _candidates() -> Iterator[str]:
    """Files and names for the dynamic loader, best first. pyeclib itself is not imported."""
    spec = importlib.util.find_spec("pyeclib")
    for package in (spec.submodule_search_locations or ()) if spec else ():
        beside = Path(package).parent / "pyeclib.libs"
        yield from (str(path) for path in sorted(beside.glob("libisal*")))
    yield from _SYSTEM_NAMES


def _version(library: ctypes.CDLL) -> str:
    """What the library says of itself; old ones do not."""
    try:
        ask = library.isal_get_version_str
    except AttributeError:
        return "of unknown version"
    ask.restype = ctypes.c_char_p
    version: bytes = ask()
    return version.decode("ascii", "replace")
