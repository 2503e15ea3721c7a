"""A small 0-db in memory, as a real one answers: for what a real server is not made to say at will.

Namespaces in user and sequential mode, quota, lock, freeze, worm, passwords; errors by order.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from zerostor.core.resp import NIL, OK, RequestParser, array, bulk, error, integer
from zerostor.resp_client import Address


@dataclass
class Space:
    """A namespace. entries: key to (order of the last write, value, stamp)."""

    name: bytes
    mode: bytes = b"user"
    password: bytes = b""
    limit: int = 0
    flags: dict[bytes, bool] = field(default_factory=dict)
    entries: dict[bytes, tuple[int, bytes, int]] = field(default_factory=dict)

    @property
    def used(self) -> int:
        return sum(len(value) for _, value, _ in self.entries.values())


class UserZdb:
    """Listens on 127.0.0.1. says: (command, key) to an error text, asked before each command."""

    def __init__(self, admin: bytes = b"", mode: bytes = b"user", page: int = 100) -> None:
        self.admin = admin
        self.page = page
        self.spaces = {b"default": Space(b"default", mode)}
        self.says: Callable[[bytes, bytes], str | None] = lambda command, key: None
        self.commands: list[tuple[bytes, ...]] = []
        self.now = lambda: int(time.time())
        self._order = itertools.count()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, port: int = 0) -> Address:
        """Listen; where."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        return Address(port=self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """As if it had died: connections break off."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        session = _Session(self)
        parser = RequestParser()
        try:
            while chunk := await reader.read(2**20):
                for arguments in parser.feed(chunk):
                    writer.write(session.answer(arguments))
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def next_order(self) -> int:
        return next(self._order)


class _Session:
    def __init__(self, server: UserZdb) -> None:
        self.server = server
        self.space = server.spaces[b"default"]
        self.admin = not server.admin
        self.nonce = b""

    def answer(self, arguments: list[bytes]) -> bytes:
        name = arguments[0].upper()
        self.server.commands.append((name, *arguments[1:2]))
        planned = self.server.says(name, arguments[1] if len(arguments) > 1 else b"")
        if planned is not None:
            return error(planned)
        if name in _ADMIN and not self.admin:
            return error("Permission denied")
        handler = getattr(self, "_" + name.decode().lower().removesuffix("x"), None)
        reply: bytes = error("Command not supported") if handler is None else handler(arguments)
        return reply

    def _info(self, _: list[bytes]) -> bytes:
        return bulk(b"# server\nserver_name: 0-db (zdb)\nsequential_key_size: 8\n")

    def _time(self, _: list[bytes]) -> bytes:
        return array([bulk(b"%d" % self.server.now()), bulk(b"0")])

    def _auth(self, arguments: list[bytes]) -> bytes:
        if arguments[1:] == [b"SECURE", b"CHALLENGE"]:
            self.nonce = b"%016x" % (len(self.server.commands) * 7919)
            return b"+%b\r\n" % self.nonce
        if not self.server.admin:
            return error("Authentication disabled")
        self.admin = self._right(arguments[1:], self.server.admin)
        return OK if self.admin else error("Access denied")

    def _right(self, given: list[bytes], password: bytes) -> bool:
        if given[:1] == [b"SECURE"]:
            wanted = hashlib.sha1(self.nonce + b":" + password).hexdigest().encode()
            return bool(self.nonce) and given[1] == wanted
        return given == [password]

    def _select(self, arguments: list[bytes]) -> bytes:
        space = self.server.spaces.get(arguments[1])
        if space is None:
            return error("Namespace not found")
        if space.password and len(arguments) == 2:
            return error("Namespace protected and private")
        if space.password and not self._right(arguments[2:], space.password):
            return error("Access denied")
        self.space = space
        return OK

    def _nsnew(self, arguments: list[bytes]) -> bytes:
        self.server.spaces[arguments[1]] = Space(arguments[1], b"seq")
        return OK

    def _nsset(self, arguments: list[bytes]) -> bytes:
        space, name, value = self.server.spaces[arguments[1]], arguments[2], arguments[3]
        if name == b"mode":
            space.mode = value
        elif name == b"password":
            space.password = value
        elif name == b"maxsize":
            space.limit = int(value)
        else:
            space.flags[name] = value == b"1"
        return OK

    def _nsinfo(self, arguments: list[bytes]) -> bytes:
        space = self.server.spaces.get(arguments[1])
        if space is None:
            return error("Namespace not found")
        mode = "userkey" if space.mode == b"user" else "sequential"
        return bulk(
            f"# namespace\nname: {space.name.decode()}\nentries: {len(space.entries)}\n"
            f"data_size_bytes: {space.used}\ndata_limits_bytes: {space.limit}\nmode: {mode}\n"
            f"data_disk_freespace_bytes: 1000000000\n".encode())

    def _frozen(self) -> bytes | None:
        text = "Namespace is temporarily frozen (read-write disabled)"
        return error(text) if self.space.flags.get(b"freeze") else None

    def _refuses(self, key: bytes, size: int) -> bytes | None:
        flags, space = self.space.flags, self.space
        if flags.get(b"freeze"):
            return self._frozen()
        if flags.get(b"lock"):
            return error("Namespace is temporarily locked (read-only)")
        if flags.get(b"worm") and key in space.entries:
            return error("Namespace is protected by worm mode")
        old = len(space.entries[key][1]) if key in space.entries else 0
        if space.limit and space.used + size > space.limit + old:
            return error("No space left on this namespace")
        return None

    def _set(self, arguments: list[bytes]) -> bytes:
        key, value = arguments[1], arguments[2]
        refused = self._refuses(key, len(value))
        if refused is not None:
            return refused
        if key in self.space.entries and self.space.entries[key][1] == value:
            return NIL
        self.space.entries[key] = (self.server.next_order(), value, self.server.now())
        return bulk(key)

    def _get(self, arguments: list[bytes]) -> bytes:
        found = self.space.entries.get(arguments[1])
        return self._frozen() or (NIL if found is None else bulk(found[1]))

    def _del(self, arguments: list[bytes]) -> bytes:
        if arguments[1] not in self.space.entries:
            return error("Key not found")
        refused = self._refuses(b"", 0)
        if refused is None:
            del self.space.entries[arguments[1]]
        return refused or OK

    def _scan(self, arguments: list[bytes]) -> bytes:
        after = int(arguments[1]) if len(arguments) > 1 else -1
        rows = sorted((order, key, len(value), stamp)
                      for key, (order, value, stamp) in self.space.entries.items()
                      if order > after)[: self.server.page]
        if not rows:
            return error("No more data")
        listed = [array([bulk(key), integer(size), integer(stamp)]) for _, key, size, stamp in rows]
        return array([bulk(b"%d" % rows[-1][0]), array(listed)])


_ADMIN = {b"NSNEW", b"NSSET", b"NSDEL"}
