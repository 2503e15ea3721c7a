"""Following a 0-db that is not ours: its records, fetched by SCAN, GET and WAIT.

Such a server has no log to give, so this one's is not byte-identical; ids, values and times are the
same. A record that is replaced keeps its place in SCAN, so the newest ids are looked at again each
time, and all of them every WHOLE_SECONDS, when what was deleted there is found as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from blake3 import blake3

from zerostor.core.errors import MetadataUnavailable
from zerostor.core.limits import METADATA_ID_MAX
from zerostor.core.replication import Comparison
from zerostor.core.resp import Reply, ReplyError
from zerostor.zdb.batches import Unsettled
from zerostor.zdb.link import Link, LinkFailed
from zerostor.zdb.opened_log import Checkpoint
from zerostor.zdb.segments import LogStore

WAIT_MILLISECONDS = 250
"""How long the server may keep us; what was written between a look and the wait is seen then."""
SILENCE = 10.0
"""Seconds without an answer to that after which the server is taken for gone."""
WHOLE_SECONDS = 60.0
"""Between looks at all records."""
RECENT_PAGES = 3
"""Pages of SCAN, of some 1,500 ids each, that are looked at again each time."""
SETTLE_RECORDS = 512
"""Records after which the disk is waited for."""
GONE_MAX = 100
GONE_SHARE = 0.1
"""More deletions at once than both are not believed: that server lost its records, or is another.
"""


class Foreign:
    """Copies what `link` has into `store`, which refuses all others for `reason`."""

    def __init__(
        self, store: LogStore, link: Link, reason: str, told: Callable[[], None]
    ) -> None:
        """told: called each time all was copied."""
        self._store = store
        self._link = link
        self._reason = reason
        self._told = told
        self._cursors: list[bytes | None] = [None]
        self._unsettled: Unsettled[Checkpoint] = Unsettled()
        self._width = 8

    async def run(self) -> None:
        """Copy until the link fails. Raises LinkFailed, MetadataUnavailable."""
        loop = asyncio.get_running_loop()
        whole_at = loop.time()
        while True:
            if loop.time() >= whole_at:
                self._cursors = [None]
                await self._copy(None, whole=True)
                whole_at = loop.time() + WHOLE_SECONDS
            else:
                await self._copy(self._cursors[0], whole=False)
            reply = await self._link.call(b"WAIT", b"SET", b"%d" % WAIT_MILLISECONDS,
                                          seconds=SILENCE)
            if isinstance(reply, ReplyError) and str(reply) != "Timeout":
                await asyncio.sleep(WAIT_MILLISECONDS / 1000)

    async def _copy(self, cursor: bytes | None, *, whole: bool) -> None:
        """Take over what differs behind `cursor`; with `whole` also what is gone."""
        expected, copied = 0, 0
        gone: list[int] = []
        while (page := await self.page(cursor)) is not None:
            cursor, rows = page
            for key, length, stamp in rows:
                gone += self._live(expected, key) if whole else ()
                expected = key + 1
                if self._differs(key, length, stamp):
                    await self._fetch(key, stamp)
                    copied += 1
                    if copied % SETTLE_RECORDS == 0:
                        await self._settle()
            self._cursors = [*self._cursors, cursor][-RECENT_PAGES:]
        if whole:
            self._forget([*gone, *self._live(expected, self._store.next_id)])
        await self._settle()
        self._told()

    def _live(self, first: int, end: int) -> list[int]:
        """Our records with ids from `first` to before `end`."""
        store = self._store
        return [key for key in range(first, min(end, store.next_id))
                if store.find(key.to_bytes(store.id_bytes, "little")) is not None]

    def _forget(self, gone: list[int]) -> None:
        """Delete what the other side has no more. Raises LinkFailed if that is not to be believed.
        """
        store = self._store
        if len(gone) > max(GONE_MAX, GONE_SHARE * store.entries):
            raise LinkFailed(f"it has lost {len(gone)} of {store.entries} records: promote this"
                             " slave, or give it an empty metadata folder to begin anew")
        with self._writing():
            for key in gone:
                store.delete(key, store.stamp(key))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Take writes for a moment in which nobody else's turn comes."""
        store = self._store
        if store.refused != self._reason:
            raise MetadataUnavailable(store.refused or "this server leads")
        store.refused = None
        try:
            yield
        finally:
            store.refused = store.refused or self._reason
        self._unsettled.add(store.newest)

    def _differs(self, key: int, length: int, stamp: int) -> bool:
        store = self._store
        slot = store.find(key.to_bytes(store.id_bytes, "little"))
        return slot is None or (store.length(slot), store.stamp(slot)) != (length, stamp)

    async def _fetch(self, key: int, stamp: int) -> None:
        reply = await self._link.ask(b"GET", key.to_bytes(self._width, "little"))
        if isinstance(reply, bytes):
            with self._writing():
                self._store.put_given(key, reply, stamp)
        elif reply is not None:
            raise LinkFailed("it answers GET with something else")

    async def _settle(self) -> None:
        """Return when what was copied is on the disk. Raises MetadataUnavailable if it is not."""
        error = await self._unsettled.ended()
        if error is not None:
            raise MetadataUnavailable(f"what was copied cannot be written: {error}")

    async def same(self, key: int, length: int, stamp: int) -> bool:
        """Whether record `key` is the same here, if need be by its value."""
        if not self._differs(key, length, stamp):
            return True
        raw = key.to_bytes(self._store.id_bytes, "little")
        theirs = await self._link.ask(b"GET", key.to_bytes(self._width, "little"))
        slot = self._store.find(raw)
        return theirs == (None if slot is None else self._store.get(slot))

    async def page(self, cursor: bytes | None) -> tuple[bytes, list[tuple[int, int, int]]] | None:
        """The cursor behind a page of SCAN, and (id, length, time) of its records; None at the end.
        """
        found = await page_of(self._link, cursor)
        if found is None:
            return None
        following, self._width, rows = found
        return following, rows


async def page_of(
    link: Link, cursor: bytes | None
) -> tuple[bytes, int, list[tuple[int, int, int]]] | None:
    """As `Foreign.page`, with the width of ids in the middle. Raises LinkFailed."""
    reply = await link.call(b"SCANX", *([] if cursor is None else [cursor]))
    if isinstance(reply, ReplyError):
        if str(reply) == "No more data":
            return None
        raise LinkFailed(f"it answers SCAN with: {reply}")
    match reply:
        case [bytes() as following, list() as rows]:
            return following, _width(rows), [_row(row) for row in rows]
    raise LinkFailed("it answers SCAN with something else")


def _width(rows: list[Reply]) -> int:
    match rows:
        case [[bytes() as raw, *_], *_]:
            return len(raw)
    return 8


def _row(row: Reply) -> tuple[int, int, int]:
    match row:
        case [bytes() as raw, int() as length, int() as stamp] if len(raw) in (4, 8):
            key = int.from_bytes(raw, "little")
            if key <= METADATA_ID_MAX:
                return key, length, stamp
    raise LinkFailed("it has keys that are no ids below 2^32: is its mode sequential?")


async def check_foreign(link: Link) -> None:
    """Raise LinkFailed unless this is a 0-db with ids that is not ours.

    A slave that has followed one cannot follow ours any more, so a garbled INFO must not decide it.
    """
    reply = await link.call(b"LOG", b"ID")
    if not isinstance(reply, ReplyError):
        raise LinkFailed("its INFO says that it is no zerostor zdb, and it answers as one")
    await page_of(link, None)


async def compare_foreign(store: LogStore, link: Link) -> Comparison:
    """Ids, lengths, times and values of `store` against those at `link`. Raises LinkFailed.

    What was written there since it was copied is no difference.
    """
    other, whole, differs = Foreign(store, link, "", lambda: None), blake3(), ""
    cursor: bytes | None = None
    last = store.next_id
    while (page := await other.page(cursor)) is not None:
        cursor, rows = page
        for key, length, stamp in rows:
            if key >= last:
                continue
            whole.update(b"%d %d %d\n" % (key, length, stamp))
            if not differs and not await other.same(key, length, stamp):
                differs = f"record {key} differs"
    return Comparison(0, last - 1, store.entries, whole.hexdigest(), differs)
