"""ShardBook in the book of nodes: tables of its own, and `drops`, which are deleted in time.

    shards     node, key, generation, sizes of its chunks as core.node_shard has them, lost, digests
    writing    chunks that may have been sent, of shards that are being written: `first` to `until`
    wear       per node and hour: chunks written, blocks erased; hour 0: all before yesterday

One transaction does both, name a shard and give up what it replaces, so that at any moment a chunk
on a node is named by one row: of a shard, of a writer, or of what is to be deleted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from zerostor.core.node_shard import NodeShard, chunk_ids, decode_sizes, encode_sizes
from zerostor.core.nodes import ChunkId
from zerostor.node_ports import Wear
from zerostor.sqlite_book import SqliteBook

TABLES = """
CREATE TABLE shards (node TEXT, key TEXT, generation BLOB NOT NULL, sizes BLOB NOT NULL,
  lost INTEGER NOT NULL, digests BLOB NOT NULL DEFAULT x'', PRIMARY KEY (node, key)) WITHOUT ROWID;
CREATE TABLE writing (node TEXT, generation BLOB, key TEXT NOT NULL, first INTEGER NOT NULL,
  until INTEGER NOT NULL, PRIMARY KEY (node, generation)) WITHOUT ROWID;
CREATE TABLE wear (node TEXT, hour INTEGER, chunks INTEGER NOT NULL, erases REAL NOT NULL,
  PRIMARY KEY (node, hour)) WITHOUT ROWID;
"""
FROM_1 = "ALTER TABLE shards ADD COLUMN digests BLOB NOT NULL DEFAULT x'';"
HOUR = 3600.0
HOURS_KEPT = 48
"""Hours that are told apart; what is older is summed up."""
_T = TypeVar("_T")
_Row = tuple[str, bytes, bytes, int, bytes]
_COLUMNS = "key, generation, sizes, lost, digests"


class SqliteShardBook:
    """See node_ports.ShardBook, as for all methods. The file is opened and closed by others."""

    def __init__(self, book: SqliteBook) -> None:
        self._book = book

    async def note(self, node: str, key: str, generation: bytes, until: int) -> None:
        """One row a writer."""
        await self._run(lambda book: book.execute(
            "INSERT INTO writing VALUES (?, ?, ?, 0, ?)"
            " ON CONFLICT DO UPDATE SET until = excluded.until", (node, generation, key, until)))

    async def show(self, node: str, shard: NodeShard, *, last: bool) -> bool:
        """What it replaces is dropped in the same transaction."""
        row = (node, shard.key, shard.generation, encode_sizes(shard.sizes),
               shard.digests)
        writer = (node, shard.generation)

        def show(book: sqlite3.Connection) -> bool:
            replaced = _drop_shard(book, node, shard.key, other_than=shard.generation)
            book.execute("REPLACE INTO shards VALUES (?, ?, ?, ?, 0, ?)", row)
            if last:
                book.execute("DELETE FROM writing WHERE node = ? AND generation = ?", writer)
            else:
                book.execute("UPDATE writing SET first = ? WHERE node = ? AND generation = ?",
                             (len(shard.sizes), *writer))
            return replaced

        return await self._run(show)

    async def give_up(self, node: str, generation: bytes) -> None:
        """Its chunks from `first` on are dropped."""
        await self._run(lambda book: _give_up(book, "WHERE node = ? AND generation = ?",
                                              (node, generation)))

    async def give_up_all(self) -> int:
        """Of all nodes."""
        return await self._run(lambda book: _give_up(book, "", ()))

    async def find(self, node: str, key: str) -> NodeShard | None:
        """By its two names."""
        rows: list[_Row] = await self._run(lambda book: book.execute(
            f"SELECT {_COLUMNS} FROM shards WHERE node = ? AND key = ?",  # noqa: S608
            (node, key)).fetchall())
        return _shard(rows[0]) if rows else None

    async def shards(self, node: str, after: str, limit: int) -> Sequence[NodeShard]:
        """With those that are lost."""
        rows: list[_Row] = await self._run(lambda book: book.execute(
            f"SELECT {_COLUMNS} FROM shards WHERE node = ? AND key > ?"  # noqa: S608
            " ORDER BY key LIMIT ?", (node, after, limit)).fetchall())
        return [_shard(row) for row in rows]

    async def remove(self, node: str, key: str) -> bool:
        """Its chunks are dropped in the same transaction."""
        def remove(book: sqlite3.Connection) -> bool:
            found = _drop_shard(book, node, key)
            book.execute("DELETE FROM shards WHERE node = ? AND key = ?", (node, key))
            return found

        return await self._run(remove)

    async def mark(self, node: str, shards: Sequence[NodeShard]) -> None:
        """By generation, which no other shard has."""
        rows = [(shard.lost, node, shard.key, shard.generation) for shard in shards]
        await self._run(lambda book: book.executemany(
            "UPDATE shards SET lost = ? WHERE node = ? AND key = ? AND generation = ?", rows))

    async def known(self, node: str) -> Collection[ChunkId]:
        """See node_ports.ChunkKeeper: of shards, of writers, and what is to be deleted."""
        def known(book: sqlite3.Connection) -> set[ChunkId]:
            chunks = {chunk for (chunk,) in book.execute(
                "SELECT chunk FROM drops WHERE node = ?", (node,))}
            for shard in _shards(book, node):
                chunks.update(shard.chunks())
            for key, generation, until in book.execute(
                    "SELECT key, generation, until FROM writing WHERE node = ?", (node,)):
                chunks.update(chunk_ids(key, generation, range(until)))
            return chunks

        return await self._run(known)

    async def digests(self, node: str) -> Mapping[ChunkId, bytes]:
        """Of shards that are shown."""
        def digests(book: sqlite3.Connection) -> dict[ChunkId, bytes]:
            found: dict[ChunkId, bytes] = {}
            for shard in _shards(book, node):
                found |= shard.chunk_digests()
            return found

        return await self._run(digests)

    async def wear(self, since: float, until: float) -> Mapping[str, Wear]:
        """Whole hours."""
        rows = await self._run(lambda book: book.execute(
            "SELECT node, sum(CASE WHEN hour BETWEEN ?1 AND ?2 THEN chunks ELSE 0 END),"
            " sum(CASE WHEN hour BETWEEN ?1 AND ?2 THEN erases ELSE 0 END), sum(erases) FROM wear"
            " GROUP BY node", (int(since // HOUR), int(until // HOUR))).fetchall())
        return {node: Wear(*counts) for node, *counts in rows}

    async def wrote(self, at: float, counts: Mapping[str, Wear]) -> None:
        """And sum up what is old, or of an hour that is to come: the clock was wrong then."""
        hour = int(at // HOUR)

        def wrote(book: sqlite3.Connection) -> None:
            for node, wear in counts.items():
                _add_wear(book, node, hour, wear.writes, wear.erases)
            other = "hour > 0 AND hour NOT BETWEEN ? AND ?"
            kept = (hour - HOURS_KEPT, hour)
            old = book.execute("SELECT node, sum(chunks), sum(erases) FROM wear"  # noqa: S608
                               f" WHERE {other} GROUP BY node", kept).fetchall()
            book.execute(f"DELETE FROM wear WHERE {other}", kept)  # noqa: S608
            for node, chunks, erases in old:
                _add_wear(book, node, 0, chunks, erases)

        await self._run(wrote)

    async def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        return await self._book.run(work)


def _add_wear(book: sqlite3.Connection, node: str, hour: int, chunks: int, erases: float) -> None:
    book.execute("INSERT INTO wear VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                 " chunks = chunks + excluded.chunks, erases = erases + excluded.erases",
                 (node, hour, chunks, erases))


def _give_up(book: sqlite3.Connection, which: str, values: tuple[object, ...]) -> int:
    rows = f"SELECT node, key, generation, first, until FROM writing {which}"  # noqa: S608
    found = book.execute(rows, values).fetchall()
    for node, key, generation, first, until in found:
        _drop(book, node, chunk_ids(key, generation, range(first, until)))
    book.execute(f"DELETE FROM writing {which}", values)  # noqa: S608
    return len(found)


def _drop_shard(book: sqlite3.Connection, node: str, key: str, other_than: bytes = b"") -> bool:
    """The chunks of the shard of that key, unless it has that generation."""
    rows = book.execute(f"SELECT {_COLUMNS} FROM shards"  # noqa: S608
                        " WHERE node = ? AND key = ? AND generation != ?",
                        (node, key, other_than)).fetchall()
    for row in rows:
        _drop(book, node, _shard(row).chunks())
    return bool(rows)


def _drop(book: sqlite3.Connection, node: str, chunks: Iterable[ChunkId]) -> None:
    book.executemany("INSERT OR IGNORE INTO drops VALUES (?, ?)",
                     [(node, chunk) for chunk in chunks])


def _shards(book: sqlite3.Connection, node: str) -> Iterator[NodeShard]:
    rows = f"SELECT {_COLUMNS} FROM shards WHERE node = ?"  # noqa: S608
    return map(_shard, book.execute(rows, (node,)))


def _shard(row: _Row) -> NodeShard:
    key, generation, sizes, lost, digests = row
    return NodeShard(key, generation, decode_sizes(sizes), digests, bool(lost))
