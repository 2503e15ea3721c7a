"""A log made again: what the disk does not take is never left out in silence."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fakes.logs import file_size_limit
from zerostor.core.errors import MetadataUnavailable
from zerostor.zdb.restored_log import DirectoryRestoredLog


async def test_a_record_that_a_full_disk_refused_fails_the_recovery(tmp_path: Path) -> None:
    restored = DirectoryRestoredLog(tmp_path / "metadata", lambda: 1.0)
    await restored.open()
    await restored.put(0, b"a" * 1000)
    with file_size_limit(1500):
        await restored.put(1, b"b" * 1000)
        failing = restored.store.newest
        assert failing is not None
        await failing.ended()
    assert failing.error is not None, "the disk took it"
    for each in range(2, 6):
        await restored.put(each, b"c" * 1000)
        await asyncio.sleep(0.01)
    with pytest.raises(MetadataUnavailable, match="cannot be written"):
        await restored.finish(1, "")
    await restored.discard()
    assert not (tmp_path / "metadata").exists()
