"""NodeBook in one SQLite file: DATA/nodes/nodes.db.

    nodes    name, Node as msgpack; keys are in it, so the file is its owner's alone
    drops    chunks to be deleted when their node is next here
    events   what happened, the last EVENTS_KEPT, of one node at most NODE_EVENTS_KEPT
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from zerostor.core.errors import SetupError
from zerostor.core.msgpack import UNDECODABLE
from zerostor.core.nodes import ChunkId, Node, NodeEvent, NodeEventKind
from zerostor.core.setting_types import Secret
from zerostor.nodes import shard_book
from zerostor.sqlite_book import BookKind, SqliteBook, keep_last, plain

FORMAT = 2
"""user_version of the file."""
EVENTS_KEPT = 20_000
NODE_EVENTS_KEPT = 1000
_TABLES = """
CREATE TABLE nodes (name TEXT PRIMARY KEY, node BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE drops (node TEXT, chunk BLOB, PRIMARY KEY (node, chunk)) WITHOUT ROWID;
CREATE TABLE events (number INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT NOT NULL,
  at REAL NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL);
CREATE INDEX events_by_node ON events (node, number);
"""
_KIND = BookKind(
    title="the book of nodes", file="DATA/nodes/nodes.db", format=FORMAT,
    tables=_TABLES + shard_book.TABLES, upgrades={1: shard_book.FROM_1},
    application=0x5A53_4E42,  # "ZSNB"
    in_use="another node hub has the nodes",
    remedy="add each node again, with new keys: what they keep stays with them")


def _hidden(value: object) -> object:
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError(type(value))


def _revealed(kind: type, value: object) -> object:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise NotImplementedError(kind)


_encoder = msgspec.msgpack.Encoder(enc_hook=_hidden)
_decoder = msgspec.msgpack.Decoder(Node, dec_hook=_revealed)


class SqliteNodeBook:
    """The file at `path`, made where there is none. Raises SetupError if it cannot be used."""

    def __init__(self, path: Path) -> None:
        self._book = SqliteBook(path, _KIND)
        self.shards = shard_book.SqliteShardBook(self._book)

    async def nodes(self) -> Sequence[Node]:
        """See node_ports.NodeBook, as for all methods."""
        rows = await self._book.run(
            lambda book: book.execute("SELECT node FROM nodes ORDER BY name").fetchall())
        try:
            return [_decoder.decode(node) for (node,) in rows]
        except UNDECODABLE as error:
            raise SetupError(f"the book of nodes does not decode: {error}") from error

    async def put(self, node: Node) -> None:
        """Add or replace."""
        row = (node.name, _encoder.encode(node))
        await self._book.run(lambda book: book.execute("REPLACE INTO nodes VALUES (?, ?)", row))

    async def remove(self, name: str) -> None:
        """What was to be deleted on it stays so: the device may be added again, and ids are never
        given to anything else.
        """
        await self._book.run(
            lambda book: book.execute("DELETE FROM nodes WHERE name = ?", (name,)))

    async def tell(self, events: Sequence[NodeEvent]) -> None:
        """In one transaction."""
        rows = [(event.node, event.at, str(event.kind), plain(event.detail)) for event in events]

        def tell(book: sqlite3.Connection) -> None:
            book.executemany("INSERT INTO events (node, at, kind, detail) VALUES (?, ?, ?, ?)",
                             rows)
            for node in {event.node for event in events}:
                keep_last(book, "events", "node", node, NODE_EVENTS_KEPT)
            book.execute("DELETE FROM events WHERE number <="
                         " (SELECT max(number) FROM events) - ?", (EVENTS_KEPT,))

        await self._book.run(tell)

    async def events(self, node: str, limit: int) -> Sequence[NodeEvent]:
        """Newest first."""
        which, asked = ("WHERE node = ?", (node, limit)) if node else ("", (limit,))
        rows = await self._book.run(lambda book: book.execute(
            f"SELECT at, node, kind, detail FROM events {which}"  # noqa: S608
            " ORDER BY number DESC LIMIT ?", asked).fetchall())
        return [NodeEvent(at, node, NodeEventKind(kind), detail) for at, node, kind, detail in rows]

    async def last_events(self) -> Mapping[str, NodeEvent]:
        """By name."""
        rows = await self._book.run(lambda book: book.execute(
            "SELECT at, node, kind, detail FROM events WHERE number IN"
            " (SELECT max(number) FROM events GROUP BY node)").fetchall())
        return {node: NodeEvent(at, node, NodeEventKind(kind), detail)
                for at, node, kind, detail in rows}

    async def drop(self, node: str, chunks: Sequence[ChunkId]) -> None:
        """Remember them."""
        rows = [(node, chunk) for chunk in chunks]
        await self._book.run(lambda book: book.executemany(
            "INSERT OR IGNORE INTO drops VALUES (?, ?)", rows))

    async def dropped(self, node: str, limit: int, after: ChunkId = b"") -> Sequence[ChunkId]:
        """By id."""
        rows = await self._book.run(lambda book: book.execute(
            "SELECT chunk FROM drops WHERE node = ? AND chunk > ? ORDER BY chunk LIMIT ?",
            (node, after, limit)).fetchall())
        return [chunk for (chunk,) in rows]

    async def forget_drops(self, node: str, chunks: Sequence[ChunkId]) -> None:
        """Done with."""
        rows = [(node, chunk) for chunk in chunks]
        await self._book.run(lambda book: book.executemany(
            "DELETE FROM drops WHERE node = ? AND chunk = ?", rows))

    async def close(self) -> None:
        """Finish what was asked, then close; once more does nothing."""
        await self._book.close()
