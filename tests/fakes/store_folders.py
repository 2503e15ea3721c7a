"""What tests of folders of shards share: a shard, a read of it, and a look at all files."""

from __future__ import annotations

import random
from pathlib import Path

from zerostor.core.limits import KIB
from zerostor.ports import ShardStore

SHARD = random.Random(7).randbytes(40 * KIB)


async def fetch(store: ShardStore, key: str, length: int = len(SHARD)) -> bytes:
    """The first `length` bytes of a shard."""
    into = bytearray(length)
    await store.read(key, 0, memoryview(into))
    return bytes(into)


def files_below(folder: Path) -> list[str]:
    """All files, relative to `folder`."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
