"""A connection to another metadata server on which messages may come that nobody asked for."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from zerostor.core.errors import MetadataUnavailable, SetupError
from zerostor.core.limits import KIB
from zerostor.core.resp import Reply, ReplyError, ReplyParser, RespError, request
from zerostor.resp_client import Address, Arguments
from zerostor.zdb_login import Login, ServerFacts, log_in

CONNECT_TIMEOUT = 5.0
"""Seconds to connect, and to log in."""
CALL_TIMEOUT = 60.0
"""Seconds for one reply; a digest of a whole file is one."""
PORT = 9900
"""Where a 0-db listens if nothing else is said."""
_CHUNK = 256 * KIB
_ANY_ADDRESS = re.compile(r"//(0\.0\.0\.0|\[::\]|):")


class LinkFailed(MetadataUnavailable):
    """The other server cannot be reached, went away, or refused."""


class LinkRefused(LinkFailed):
    """The other server lives, and does not do what it is asked."""


class Peer(NamedTuple):
    """Another metadata server. password: of its admin, empty if it needs none."""

    address: Address
    namespace: str = "default"
    password: str = ""

    def __str__(self) -> str:
        """Its URL, without the password."""
        if self.address.unix is not None:
            return f"unix://{self.address.unix}"
        where = f"zdb://{self.address}"
        return where if self.namespace == "default" else f"{where}/{self.namespace}"

    def __repr__(self) -> str:
        return f"Peer({self!s}{', ***' if self.password else ''})"


def parse_peer(url: str, password: str = "") -> Peer:
    """The peer of a zdb:// or unix:// URL. Raises SetupError."""
    parts = urlsplit(url)
    try:
        port = parts.port or PORT
    except ValueError as error:
        raise SetupError(f"{url}: {error}") from None
    if parts.scheme == "unix" and parts.path:
        return Peer(Address(unix=Path(parts.path)), password=password)
    if parts.scheme == "zdb" and parts.hostname:
        namespace = parts.path.strip("/") or "default"
        return Peer(Address(None, parts.hostname, port), namespace, password)
    raise SetupError(f"{url!r} is no metadata server: write zdb://HOST:PORT or unix:///PATH")


def known_peers(urls: Iterable[str], password: str) -> list[Peer]:
    """The peers of URLs that were told or kept; those that are none are left out."""
    found = []
    for url in filter(None, urls):
        with contextlib.suppress(SetupError):
            found.append(parse_peer(url, password))
    return found


class Link:
    """One connection, for one task. Every method raises LinkFailed. facts: what its INFO tells."""

    facts: ServerFacts

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._parser = ReplyParser()
        self._replies: deque[Reply] = deque()

    def announced(self, listens: str) -> bytes:
        """Our own URL for the other side: of "any address" the one that this link has."""
        name = self._writer.get_extra_info("sockname")
        if isinstance(name, tuple):
            host = f"[{name[0]}]" if ":" in name[0] else name[0]
            listens = _ANY_ADDRESS.sub(f"//{host}:", listens, count=1)
        return listens.encode()

    async def exchange(self, requests: Sequence[Arguments]) -> list[Reply]:
        """One reply per request, one after the other."""
        return [await self.call(*arguments, seconds=CONNECT_TIMEOUT) for arguments in requests]

    async def call(self, *arguments: bytes | memoryview, seconds: float = CALL_TIMEOUT) -> Reply:
        """Ask, and wait for the next reply."""
        await self.send(*arguments)
        return await self.receive(seconds)

    async def ask(self, *arguments: bytes, seconds: float = CALL_TIMEOUT) -> Reply:
        """As `call`; an error reply is raised."""
        reply = await self.call(*arguments, seconds=seconds)
        if isinstance(reply, ReplyError):
            if str(reply) == "Permission denied":
                raise LinkRefused("it needs the password of its admin: name a file with it in"
                                 " metadata.password_file")
            raise LinkRefused(f"it answers {bytes(arguments[0]).decode()} with: {reply}")
        return reply

    async def send(self, *arguments: bytes | memoryview) -> None:
        """Ask, and wait for nothing."""
        try:
            self._writer.write(request(arguments))
            await self._writer.drain()
        except OSError as error:
            raise LinkFailed(f"the connection broke: {error.strerror or error}") from None

    async def receive(self, seconds: float) -> Reply:
        """The next reply or message."""
        try:
            async with asyncio.timeout(seconds):
                while not self._replies:
                    chunk = await self._reader.read(_CHUNK)
                    if not chunk:
                        raise LinkFailed("it closed the connection")
                    self._replies.extend(self._parser.feed(chunk))
        except TimeoutError:
            raise LinkFailed(f"it said nothing for {seconds:g} s") from None
        except (OSError, RespError) as error:
            raise LinkFailed(f"the connection broke: {error}") from None
        return self._replies.popleft()

    def close(self) -> None:
        """Let go of the connection."""
        self._writer.close()


async def open_link(peer: Peer) -> Link:
    """Connect, log in and choose the namespace. Raises LinkFailed."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            link = Link(*await _connect(peer.address))
            try:
                link.facts = await log_in(link, Login(peer.namespace, peer.password))
            except SetupError as error:
                link.close()
                raise LinkRefused(str(error)) from None
            except BaseException:
                link.close()
                raise
            if not link.facts.admin:
                link.close()
                raise LinkRefused("it refuses the password of metadata.password_file")
            return link
    except TimeoutError:
        raise LinkFailed(f"it does not answer within {CONNECT_TIMEOUT:g} s") from None
    except OSError as error:
        raise LinkFailed(error.strerror or str(error)) from None


async def _connect(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.unix is not None:
        return await asyncio.open_unix_connection(str(address.unix), limit=_CHUNK)
    return await asyncio.open_connection(address.host, address.port, limit=_CHUNK)


@contextlib.asynccontextmanager
async def linked(peer: Peer) -> AsyncIterator[Link]:
    """A link that is closed at the end."""
    link = await open_link(peer)
    try:
        yield link
    finally:
        link.close()
