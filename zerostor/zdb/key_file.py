"""The file "keys" of a log of user keys: its table as it was when a file was closed."""

from __future__ import annotations

import logging
import os
import zlib
from array import array
from pathlib import Path

from zerostor.core.key_snapshot import (
    KeyFacts,
    KeyHead,
    decode_head,
    encode_head,
    head_size,
)
from zerostor.zdb.key_table import PARTS, FrozenTable, KeyTable
from zerostor.zdb.positions import keys_path

log = logging.getLogger(__name__)


def save_keys(folder: Path, facts: KeyFacts, frozen: FrozenTable) -> None:
    """Write it, in any thread. Not flushed: a torn one is not believed. Raises OSError."""
    path = keys_path(folder)
    beside = path.with_suffix(".new")
    try:
        with beside.open("wb") as file:
            head = encode_head(KeyHead(facts, frozen.sizes, frozen.used))
            file.write(head)
            crc = zlib.crc32(head)
            for part in range(PARTS):
                cells = frozen.take(part)
                file.write(cells)
                crc = zlib.crc32(cells, crc)
            file.write(crc.to_bytes(4, "little"))
        if not frozen.spoiled:
            beside.rename(path)
    finally:
        beside.unlink(missing_ok=True)


def load_keys(folder: Path, facts: KeyFacts, table: KeyTable) -> bool:
    """Fill `table`, which is empty, if the file is of just that log file; False if it is not."""
    try:
        with keys_path(folder).open("rb") as file:
            raw = file.read(head_size(PARTS))
            head, crc = decode_head(raw, PARTS), zlib.crc32(raw)
            if head is None or head.facts != facts:
                return False
            parts = []
            # Sizes may be damaged too, and ask for more memory than there is.
            whole = os.fstat(file.fileno()).st_size == len(raw) + 4 * sum(head.sizes) + 4
            for size in head.sizes if whole else ():
                cells = file.read(4 * size)
                crc = zlib.crc32(cells, crc)
                parts.append(array("I", cells))
            if not whole or file.read(4) != crc.to_bytes(4, "little"):
                log.warning("%s is damaged; its table is built anew", keys_path(folder))
                return False
    except (OSError, ValueError):
        return False
    table.adopt(parts, head.used)
    return True
