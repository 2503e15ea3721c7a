"""Whether this metadata log is still the one that counts, as far as the stores and the pool tell.

A server that is not asked to follow anybody takes writes. If its log went on elsewhere, or its
folder was put back from an old copy, it gives ids that are somebody else's by now.
"""

from __future__ import annotations

from collections.abc import Iterable

from zerostor.core.container_index import ContainerIndex, Copy
from zerostor.core.errors import LogCorrupt, RecordCorrupt
from zerostor.core.record import decode_record
from zerostor.engine.log_parts import is_ours
from zerostor.log_ports import LogState
from zerostor.ports import MetadataStore


def epoch_elsewhere(found: Iterable[tuple[str, Copy]], here: LogState, stores: int) -> int:
    """The epoch that counts instead of that of `here`, as more than half of `stores` have it, or
    a later one; 0 if they have none. found: (store, copy of the index).

    A later one of this log, or of another log one that is not earlier: a recovery begins another
    where the stores listed nothing yet. A few stores cannot name any epoch they like.
    """
    epochs: dict[str, int] = {}
    for name, copy in found:
        index = copy.index
        same = index.log_id == here.log_id
        if index.epoch >= (here.epoch + 1 if same else max(1, here.epoch)):
            epochs[name] = max(index.epoch, epochs.get(name, 0))
    most = next(iter(sorted(epochs.values(), reverse=True)[stores // 2 :]), 0)
    return most and max(most, here.epoch + 1)


async def gives_ids_again(index: ContainerIndex, here: LogState, metadata: MetadataStore) -> bool:
    """Whether ids of parts in the pool are not given yet here, or to somebody else.

    Of a log that lost its end they are neither: it goes on behind all ids that it may have given.
    here: as of after the index was read.
    """
    if not here.leads or (index.log_id, index.epoch) != (here.log_id, here.epoch):
        return False
    for row in index.rows:
        if row.metadata_id >= here.next_id:
            return True
        try:
            stored = await metadata.get(row.metadata_id)
            if stored not in (None, row.record) and not is_ours(decode_record(stored or b"")):
                return True
        except (LogCorrupt, RecordCorrupt):
            continue
    return False


def pool_ahead(index: ContainerIndex, here: LogState) -> str:
    """What of one log the pool has, and a server whose log is `here` has not; empty if nothing."""
    if index.log_id != here.log_id:
        return ""
    if index.epoch > here.epoch:
        return f"it has epoch {index.epoch}, and this server {here.epoch}"
    kept = max(((row.file, row.end) for row in index.rows), default=(0, 0))
    end = max(((part.file, part.size) for part in here.files), default=(0, 0))
    if kept > end:
        return "it has file {}, byte {}, and this server file {}, byte {}".format(*kept, *end)
    return ""
