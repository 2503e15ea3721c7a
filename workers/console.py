"""The console of nodes: a line protocol for people, on a unix socket and, where told, on TCP.

    WRITE,NAME,DATA      APPEND,NAME,DATA      DELETE,NAME     READ,NAME
    WRITEB,NAME,LENGTH   APPENDB,NAME,LENGTH   LS  FORMAT  HELP  QUIT

DATA goes up to the end of the line, and may hold commas; a line that breaks off changes nothing.
Behind a line with LENGTH come that many bytes, whichever. Each answer is a line, VERB,OK,... or
VERB,ERR,SENTENCE; behind READ,OK,LENGTH come the bytes and an end of line; before LS,OK,COUNT a
line for each file and node.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from zerostor.core.errors import BadRequest, SetupError, ZerostorError
from zerostor.core.settings import is_loopback
from zerostor.core.telemetry import ENTRY_MAX
from zerostor.core.units import Address
from zerostor.engine.console_files import MASTER, ConsoleFiles
from zerostor.private_socket import private_socket, remove_socket

_log = logging.getLogger(__name__)

CONNECTIONS = 16
"""On the unix socket, and as many by TCP: strangers there keep nobody of this host from it."""
IDLE_SECONDS = 3600.0
BYTES_SECONDS = 60.0
"""For the bytes behind a line, and for a client to take an answer."""
_WITHOUT_END = ("READ", "LS", "HELP", "QUIT")
"""What does no harm if more of the line was to come."""
_LINE_MAX = ENTRY_MAX + 256
_HELP = ("WRITE,NAME,DATA APPEND,NAME,DATA DELETE,NAME READ,NAME LS FORMAT QUIT; for any bytes"
         " WRITEB,NAME,LENGTH and APPENDB,NAME,LENGTH, with the bytes behind the line")


class _Over(Exception):
    """The connection ends; what follows on it could not be understood."""


class Console:
    """Answers people who ask about files."""

    def __init__(self, files: ConsoleFiles) -> None:
        self._files = files
        self._open: dict[int, int] = {}

    @contextlib.asynccontextmanager
    async def serving(self, socket: Path, listen: Address | None) -> AsyncIterator[None]:
        """Answer while the block runs. Raises SetupError, OSError."""
        with private_socket(socket) as made:
            servers = [await asyncio.start_unix_server(self._talk, str(made), limit=_LINE_MAX)]
        try:
            if listen is not None:
                servers.append(await self._listening(listen))
            yield
        finally:
            for server in servers:
                server.close()
            remove_socket(socket)

    async def _listening(self, listen: Address) -> asyncio.Server:
        try:
            server = await asyncio.start_server(self._talk, listen.host, listen.port,
                                                limit=_LINE_MAX)
        except OSError as error:
            raise SetupError(f"the console cannot listen on {listen} (telemetry.console):"
                             f" {error.strerror}") from error
        _log.info("the console listens on %s", listen)
        if not is_loopback(listen.host):
            _log.warning("whoever reaches %s may change the files of the console: it asks for no"
                         " password", listen)
        return server

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        family = writer.get_extra_info("socket").family
        if self._open.get(family, 0) >= CONNECTIONS:
            writer.write(b"CONSOLE,ERR,too many are connected\n")
            writer.close()
            return
        self._open[family] = self._open.get(family, 0) + 1
        try:
            await _Talk(self._files, reader, writer).run()
        except (OSError, TimeoutError, EOFError, _Over):
            pass
        except Exception:  # noqa: BLE001 - the last line of defence
            _log.exception("the console failed on a command")
        finally:
            await _hung_up(writer)
            self._open[family] -= 1


class _Talk:
    """One connection."""

    def __init__(self, files: ConsoleFiles, reader: asyncio.StreamReader,
                 writer: asyncio.StreamWriter) -> None:
        self._files = files
        self._reader = reader
        self._writer = writer
        self._verbs: dict[str, Callable[[str, bytes], Awaitable[bytes]]] = {
            "WRITE": self._write, "WRITEB": self._write, "APPEND": self._append,
            "APPENDB": self._append, "DELETE": self._delete, "READ": self._read, "LS": self._ls,
            "FORMAT": self._format, "HELP": self._help}

    async def run(self) -> None:
        """Line by line, until QUIT or the end."""
        line = b"\n"
        while line.endswith(b"\n"):
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    line = await self._reader.readuntil()
            except asyncio.IncompleteReadError as end:
                line = end.partial
            except asyncio.LimitOverrunError as error:
                await self._say(f"LINE,ERR,a line has at most {ENTRY_MAX} bytes of data".encode())
                raise _Over from error
            if not await self._answer(line.rstrip(b"\r\n"), whole=line.endswith(b"\n")):
                return

    async def _answer(self, line: bytes, *, whole: bool) -> bool:
        verb_raw, _, rest = line.partition(b",")
        verb = verb_raw[:16].decode("ascii", "replace").strip().upper()
        if not verb:
            return True
        if verb == "QUIT":
            await self._say(b"QUIT,OK")
            return False
        act = self._verbs.get(verb)
        if act is None:
            await self._say(verb.encode() + b",ERR,that is no command; HELP shows them")
            # A browser that some page sent here would go on with commands in its body.
            return not line.rpartition(b" ")[2].startswith(b"HTTP/")
        if not whole and verb not in _WITHOUT_END:
            await self._say(verb.encode() + b",ERR,the line has no end: it may be half of one")
            return False
        name_raw, _, content = rest.partition(b",")
        name = name_raw[:64].decode("ascii", "replace").strip()
        try:
            if verb in ("WRITEB", "APPENDB"):
                content = await self._bytes(verb, content)
            told = await act(name, content)
        except ZerostorError as error:
            told = f"ERR,{error}".encode()
        await self._say(f"{verb},".encode() + told)
        return True

    async def _bytes(self, verb: str, told: bytes) -> bytes:
        length = told.strip().decode("ascii", "replace")
        if not (length.isdecimal() and len(length) < 10 and int(length) <= ENTRY_MAX):
            await self._say(f"{verb},ERR,the length is a number up to {ENTRY_MAX}".encode())
            raise _Over
        async with asyncio.timeout(BYTES_SECONDS):
            return await self._reader.readexactly(int(length))

    async def _say(self, line: bytes) -> None:
        self._writer.write(line + b"\n")
        async with asyncio.timeout(BYTES_SECONDS):
            await self._writer.drain()

    async def _write(self, name: str, content: bytes) -> bytes:
        if not content:
            raise BadRequest("a file has at least one byte; DELETE takes it away")
        await self._files.write(name, content)
        return b"OK,%d" % len(content)

    async def _append(self, name: str, content: bytes) -> bytes:
        if not content:
            raise BadRequest("there is nothing to append")
        await self._files.append(name, content)
        return b"OK,%d" % len(content)

    async def _delete(self, name: str, _: bytes) -> bytes:
        await self._files.delete(name)
        return b"OK"

    async def _read(self, name: str, _: bytes) -> bytes:
        content = await self._files.read(name)
        return b"OK,%d\n%b" % (len(content), content)

    async def _ls(self, _name: str, _: bytes) -> bytes:
        count = 0
        async for row in self._files.look():
            count += row.node == MASTER
            await self._say(",".join(map(str, row)).encode())
        return b"OK,%d" % count

    async def _format(self, _name: str, _: bytes) -> bytes:
        return b"OK,%d" % await self._files.format()

    async def _help(self, _name: str, _: bytes) -> bytes:
        return b"OK," + _HELP.encode()


async def _hung_up(writer: asyncio.StreamWriter) -> None:
    """What was said last is waited for, and then it is over also for who does not take it."""
    writer.close()
    try:
        async with asyncio.timeout(BYTES_SECONDS):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()
