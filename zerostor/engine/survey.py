"""Checks of everything, a portion of the records at a time, so that anybody can go on anywhere."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from typing import NamedTuple, cast

from zerostor.core.errors import RecordCorrupt
from zerostor.core.record import PackRecord, decode_record
from zerostor.engine.catalog import Holder, holder_of
from zerostor.engine.check import Checker, Report
from zerostor.ports import MetadataStore

LOOKED_AT = 10_000
"""Records of one portion at most, those without shards of their own among them."""
HARD_BYTES = 256 * 1024 * 1024
"""Encoded bytes of a hard portion, after which it ends: it has to be answered in some time."""


class Portion(NamedTuple):
    """What some records say. following: where the next portion begins, None at the end.

    sets, objects: looked at; healthy: of the objects; degraded: objects by shards lost. damaged:
    records that cannot be decoded. bad: what is not healthy.
    """

    following: int | None
    sets: int
    objects: int
    healthy: int
    degraded: dict[int, int]
    unreadable: int
    damaged: int
    bad: list[tuple[Holder, Report]]


async def check_portion(metadata: MetadataStore, checker: Checker, start: int, limit: int, *,
                        hard: bool) -> Portion:
    """Up to `limit` stripe sets from metadata id `start` on. Raises MetadataUnavailable."""
    holders, damaged, following = await _holders(metadata, start, limit,
                                                 HARD_BYTES if hard else None)
    reports: list[Report] = []
    if hard:
        reports = [await checker.check_hard(holder) for holder in holders]
    else:
        reports = await checker.check_many(holders)
    healthy = unreadable = objects = 0
    degraded: Counter[int] = Counter()
    bad = []
    for holder, report in zip(holders, reports, strict=True):
        count = objects_of(holder)
        objects += count
        if report.state == "healthy":
            healthy += count
            continue
        bad.append((holder, report))
        if report.state == "degraded":
            degraded[len(report.faults)] += count
        else:
            unreadable += count
    return Portion(following, len(holders), objects, healthy, dict(degraded), unreadable, damaged,
                   bad)


def objects_of(holder: Holder) -> int:
    """Objects that lie in the stripe set."""
    return holder.record.objects if isinstance(holder.record, PackRecord) else 1


async def _holders(metadata: MetadataStore, start: int, limit: int, size: int | None
                   ) -> tuple[list[Holder], int, int | None]:
    """(stripe sets, records that are damaged, where to go on)."""
    holders: list[Holder] = []
    damaged = looked = total = 0
    scan = cast("AsyncGenerator[tuple[int, bytes], None]", metadata.scan(start))
    async with contextlib.aclosing(scan) as records:
        async for metadata_id, stored in records:
            if len(holders) >= limit or looked >= LOOKED_AT or (size and total >= size):
                return holders, damaged, metadata_id
            looked += 1
            try:
                holder = holder_of(metadata_id, decode_record(stored))
            except RecordCorrupt:
                damaged += 1
                continue
            if holder is not None:
                holders.append(holder)
                total += holder.stripes.layout.shard_size * len(holder.stripes.stores)
    return holders, damaged, None
