"""The container index on its stores: which copy is believed, and how each store gets its copies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, KeysView

import msgspec

from zerostor.core.container_index import (
    CONTEXT,
    INDEX_KEYS,
    INDEX_MAX,
    Container,
    ContainerIndex,
    Copy,
    decode_copy,
    unsigned,
    without_gaps,
)
from zerostor.core.errors import BackendError, LogCorrupt, RecordCorrupt, ShardCorrupt, ShardMissing
from zerostor.core.health import StoreState
from zerostor.engine.pool import StorePool
from zerostor.log_ports import IndexPlace, Signer
from zerostor.ports import MetadataStore, WatchedStore

_log = logging.getLogger(__name__)


class IndexCopies:
    """All copies: one on this host, two on each store."""

    def __init__(self, stores: StorePool, place: IndexPlace) -> None:
        self._stores = stores
        self._place = place
        self._delivered: dict[str, int] = {}
        self._told: dict[str, KeysView[str]] = {}
        self.silent: set[str] = set()
        """Stores that could not say, the last time, whether they have a copy."""

    async def own(self) -> Copy | None:
        """The copy of this host, if it has a good one."""
        with contextlib.suppress(RecordCorrupt):
            stored = await self._place.read()
            return decode_copy(stored) if stored else None
        return None

    async def on_stores(self) -> list[tuple[str, bytes]]:
        """(store, bytes) of every copy that can be had, unchecked."""
        stores = self._stores.stores.items()
        self.silent.clear()
        unread: dict[str, str] = {}
        found = await asyncio.gather(*(self._of(name, store, unread) for name, store in stores))
        self._tell("do not show their copies of the container index", unread)
        return [copy for copies in found for copy in copies]

    async def keep(self, stored: bytes) -> None:
        """Keep a copy on this host."""
        await self._place.write(stored)

    async def deliver(self, copy: Copy) -> int:
        """Give `copy` to every store that is up and has not got it yet; how many have it.

        The first time each store gets it under both names, so that no copy of another signer, and
        none that is damaged, stays behind.
        """
        stores = [store for store in self._stores.stores.values()
                  if store.write_state is not StoreState.DOWN]
        failed = await asyncio.gather(*(self._give(store, copy) for store in stores))
        self._tell("get their copies of the container index later", dict(filter(None, failed)))
        return sum(sequence == copy.index.sequence for sequence in self._delivered.values())

    def _tell(self, what: str, reasons: dict[str, str]) -> None:
        """One line however many stores fail, by name, and again only when others do."""
        if reasons and self._told.get(what) != reasons.keys():
            name, reason = next(iter(reasons.items()))
            _log.info("%d of %d stores %s: %s; %s says: %s", len(reasons),
                      len(self._stores.stores), what, ", ".join(reasons), name, reason)
        self._told[what] = reasons.keys()

    async def _give(self, store: WatchedStore, copy: Copy) -> tuple[str, str] | None:
        """(store, why) if it did not get it."""
        sequence = copy.index.sequence
        had = self._delivered.get(store.name)
        if had == sequence:
            return None
        keys = [INDEX_KEYS[sequence % 2]]
        if had != sequence - 1:
            keys.append(INDEX_KEYS[(sequence + 1) % 2])
        try:
            for key in keys:
                await store.put(key, [copy.stored])
        except BackendError as error:
            return store.name, str(error)
        self._delivered[store.name] = sequence
        return None

    async def _of(self, name: str, store: WatchedStore, unread: dict[str, str]
                  ) -> list[tuple[str, bytes]]:
        found = []
        for key in INDEX_KEYS:
            try:
                stored = bytearray(min(await store.size(key), INDEX_MAX + 1))
                await store.read(key, 0, memoryview(stored))
            except ShardMissing:
                continue
            except (BackendError, ShardCorrupt) as error:
                if isinstance(error, BackendError):
                    self.silent.add(name)
                unread[name] = str(error)
                continue
            found.append((name, bytes(stored)))
        return found


def sign(index: ContainerIndex, signer: Signer) -> Copy:
    """The index as a copy of ours."""
    head = unsigned(index, signer.public_key)
    return Copy(index, signer.public_key, head + signer.sign(CONTEXT + head))


def good_copies(copies: Iterable[tuple[str, bytes]]) -> list[tuple[str, Copy]]:
    """Those that verify, whoever signed."""
    found = []
    for name, stored in copies:
        with contextlib.suppress(RecordCorrupt):
            found.append((name, decode_copy(stored)))
    return found


async def index_of_log(
    index: ContainerIndex, epoch: int, metadata: MetadataStore
) -> ContainerIndex | None:
    """The index without what a master stored after the end of what was copied from it.

    A part's record comes behind its bytes, so who has the record has all of them. The id of one
    that is not here goes to others, and the bytes after it are others. None if the log has lost its
    end since, within one epoch: then the pool has more of it.
    """
    async def is_here(row: Container) -> bool:
        try:
            return await metadata.get(row.metadata_id) == row.record
        except LogCorrupt:
            # It is here, and in the pool it is whole.
            return True

    rows = without_gaps([row for row in index.rows if await is_here(row)])
    if index.epoch == epoch:
        return index if len(rows) == len(index.rows) else None
    if len(rows) < len(index.rows):
        _log.warning("%d of %d parts of the log in the pool are of a master that went on after"
                     " the end of what was copied here", len(index.rows) - len(rows),
                     len(index.rows))
    retired = [row for row in index.retired if await is_here(row)]
    return msgspec.structs.replace(index, rows=rows, retired=tuple(retired))
