"""The bytes of a metadata log, read from a zerostor zdb by its command LOG."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from zerostor.core.container_index import LOG_ID_SIZE
from zerostor.core.errors import MetadataUnavailable, SetupError
from zerostor.core.replication import ReplicationState
from zerostor.core.resp import Reply, ReplyError
from zerostor.log_ports import LogPart, LogState
from zerostor.resp_client import Address, Connection, RespClient
from zerostor.zdb_login import Login, log_in

_UNKNOWN = ("Command not supported", "Unknown LOG subcommand")
_T = TypeVar("_T")


class ZdbLog:
    """Adapter of ports.MetadataLog."""

    def __init__(self, address: Address, login: Login) -> None:
        """Connects when first used. login: of the server's admin."""
        async def greet(connection: Connection) -> None:
            await log_in(connection, login)

        self._client = RespClient(address, greet, connections=1, pipeline=False)

    async def state(self) -> LogState:
        """As the port says."""
        words = [(b"LOG", b"STATE"), (b"LOG", b"ID"), (b"LOG", b"FILES")]
        state, log_id, files = await self._client.call(words, retry=True)
        role = _decoded(state, ReplicationState)
        rows = _decoded(files, list[tuple[int, int, bool]])
        if not isinstance(log_id, bytes) or (role.writable and len(log_id) != LOG_ID_SIZE):
            raise _strange(log_id)
        return LogState(log_id, role.epoch, role.writable, tuple(LogPart(*row) for row in rows))

    async def read(self, file: int, offset: int, size: int) -> bytes:
        """As the port says."""
        words = [b"LOG", b"READ", b"%d" % file, b"%d" % offset, b"%d" % size]
        (reply,) = await self._client.call([words], retry=True)
        if not isinstance(reply, bytes) or len(reply) > size:
            raise _strange(reply)
        return reply

    async def close(self) -> None:
        """As the port says."""
        await self._client.close()


def _decoded(reply: Reply, kind: type[_T]) -> _T:
    if not isinstance(reply, bytes):
        raise _strange(reply)
    try:
        return msgspec.json.decode(reply, type=kind)
    except msgspec.MsgspecError:
        raise _strange(reply) from None


def _strange(reply: Reply) -> MetadataUnavailable | SetupError:
    if isinstance(reply, ReplyError):
        if str(reply) in _UNKNOWN:
            return SetupError("the metadata server is not a zerostor zdb: its log cannot be read")
        return MetadataUnavailable(f"the metadata server answers: {reply}")
    return MetadataUnavailable("the metadata server answers LOG strangely")
