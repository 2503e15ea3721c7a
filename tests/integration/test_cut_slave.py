"""What a slave's gateway remembers when the end of the slave's log is put aside."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.replicas import Server, level, promote
from tests.fakes.rough_link import RoughLink
from zerostor.clock import SystemClock
from zerostor.core.errors import UnknownObject
from zerostor.core.jobs import JobState
from zerostor.core.link import Hash, format_link, make_hash
from zerostor.core.record import NoteRecord, ObjectRecord, PackRecord, StripeSet, encode_record
from zerostor.engine.catalog import Catalog
from zerostor.engine.recent import RecentJobs
from zerostor.metadata.zdb import ZdbMetadata
from zerostor.resp_client import Address

JOBS = [f"{number:032x}" for number in range(9)]


class Writer:
    """Makes packs and objects at one server."""

    def __init__(self, server: Server) -> None:
        self.metadata = ZdbMetadata(Address(unix=server.process.unix))

    async def pack(self, key: int) -> int:
        (metadata_id,) = await self.metadata.reserve([encode_record(NoteRecord(JOBS[0]))])
        stripes = StripeSet(bytes([key]) * 16, 1, 1, 64, 64, ("00", "01"), bytes(32))
        await self.metadata.commit([(metadata_id, encode_record(PackRecord(stripes, 2, 60, 1)))])
        return metadata_id

    async def object(self, job: str, content: bytes, pack: int) -> Hash:
        note = encode_record(NoteRecord(job, f"{content[0]:016x}"))
        (metadata_id,) = await self.metadata.reserve([note])
        record = ObjectRecord(job, content * 24, 0, "txt", "default",
                              int(SystemClock().now() * 1000), pack=pack)
        await self.metadata.commit([(metadata_id, encode_record(record))])
        return make_hash(content * 24, metadata_id)


async def test_ids_that_became_somebody_elses(
        servers: Callable[..., Server], tmp_path: Path) -> None:
    old, new = servers("old").start(), servers("new")
    link = RoughLink(old.process.unix, seed=1)
    await link.start(tmp_path / "link.sock")
    slave = servers("slave", f"unix://{tmp_path / 'link.sock'}").start()
    last = servers("last", slave).start()
    new.follow(old)
    new.start()
    there = Writer(old)
    await there.object(JOBS[1], b"0", await there.pack(0))
    await asyncio.to_thread(level, old, new, slave, last)
    new.process.kill()

    pack = await there.pack(1)
    first = await there.object(JOBS[2], b"1", pack)
    gone = await there.object(JOBS[3], b"2", pack)
    await there.metadata.close()
    await asyncio.to_thread(level, old, slave, last)
    metadata = ZdbMetadata(Address(unix=slave.process.unix))
    catalog, recent = Catalog(metadata), RecentJobs(metadata, SystemClock())
    for wanted in (first, gone):
        assert (await catalog.find(wanted)).stripes.key == bytes([1]) * 16
    for job in JOBS[2:4]:
        assert (await recent.find(job, slave.state["next_id"])) is not None

    old.process.kill()
    os.kill(slave.process.pid, signal.SIGSTOP)
    new.start()
    await asyncio.to_thread(promote, new)
    os.kill(slave.process.pid, signal.SIGCONT)
    here = Writer(new)
    assert await here.pack(2) == pack, "the id is given again"
    other = await here.object(JOBS[4], b"3", pack)
    assert other.metadata_id == first.metadata_id
    again = await here.object(JOBS[2], b"1", pack)
    await here.metadata.close()
    link.target = new.process.unix
    link.hang_up()
    await asyncio.to_thread(level, new, slave, last)
    assert slave.aside() and last.aside()

    for wanted in (other, again):
        assert (await catalog.find(wanted)).stripes.key == bytes([2]) * 16
    for wanted in (first, gone):
        with pytest.raises(UnknownObject):
            await catalog.find(wanted)
    done = await recent.find(JOBS[2], slave.state["next_id"])
    assert done is not None and (done.state, done.detail) == (
        JobState.DONE, format_link(again, "txt"))
    assert await recent.find(JOBS[3], slave.state["next_id"]) is None
    await metadata.close()
    await link.close()
