"""The bytes of a metadata log, read from a zerostor zdb by its command LOG."""

from __future__ import annotations

from zerostor.core.container_index import LOG_ID_SIZE
from zerostor.core.replication import ReplicationState
from zerostor.core.resp import ReplyError
from zerostor.log_ports import LogPart, LogState
from zerostor.metadata.log_replies import decoded, log_client, strange
from zerostor.resp_client import Address
from zerostor.zdb_login import Login


class ZdbLog:
    """Adapter of log_ports.ServedLog."""

    def __init__(self, address: Address, login: Login) -> None:
        """Connects when first used. login: of the server's admin."""
        self._client = log_client(address, login)

    async def state(self) -> LogState:
        """As the port says."""
        words = [(b"LOG", b"STATE"), (b"LOG", b"ID"), (b"LOG", b"FILES")]
        state, log_id, files = await self._client.call(words, retry=True)
        role = decoded(state, ReplicationState)
        rows = decoded(files, list[tuple[int, int, bool]])
        if not isinstance(log_id, bytes) or (role.writable and len(log_id) != LOG_ID_SIZE):
            raise strange(log_id)
        return LogState(log_id, role.epoch, role.writable, tuple(LogPart(*row) for row in rows),
                        role.term, role.next_id)

    async def read(self, file: int, offset: int, size: int) -> bytes:
        """As the port says."""
        words = [b"LOG", b"READ", b"%d" % file, b"%d" % offset, b"%d" % size]
        (reply,) = await self._client.call([words], retry=True)
        if not isinstance(reply, bytes) or len(reply) > size:
            raise strange(reply)
        return reply

    async def supersede(self, epoch: int) -> None:
        """As the port says."""
        words = [b"LOG", b"SUPERSEDED", b"%d" % epoch, b""]
        (reply,) = await self._client.call([words], retry=True)
        if isinstance(reply, ReplyError):
            raise strange(reply)

    async def close(self) -> None:
        """As the port says."""
        await self._client.close()
