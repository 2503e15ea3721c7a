"""Masters and slaves, asked of a zerostor zdb by its command LOG."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from zerostor.core.errors import MetadataUnavailable, SetupError
from zerostor.core.replication import Comparison, ReplicationState
from zerostor.core.resp import ReplyError
from zerostor.resp_client import Address, Connection, RespClient
from zerostor.zdb_login import Login, log_in

LONG = 120.0
"""Seconds for a promotion, which waits for the last entries, and for a comparison of all files."""
_UNKNOWN = ("Command not supported", "Unknown LOG subcommand")
_T = TypeVar("_T")
NO_LOGIN = Login()


class ZdbReplication:
    """Adapter of ports.Replication."""

    def __init__(self, address: Address, login: Login = NO_LOGIN) -> None:
        """Connects when first used. login: of the server's admin."""
        async def greet(connection: Connection) -> None:
            await log_in(connection, login)

        self._client = RespClient(address, greet, connections=1, pipeline=False)
        # Promotions and comparisons take their time; who asks for the state must not wait for them.
        self._patient = RespClient(address, greet, connections=1, pipeline=False, timeout=LONG)

    async def state(self, gateway: str = "") -> ReplicationState | None:
        """As the port says."""
        words = [b"LOG", b"STATE", *([gateway.encode()] if gateway else [])]
        (reply,) = await self._client.call([words], retry=True)
        if isinstance(reply, ReplyError) and str(reply) in _UNKNOWN:
            return None
        return _decoded(reply, ReplicationState)

    async def promote(self) -> ReplicationState:
        """As the port says."""
        (reply,) = await self._patient.call([(b"LOG", b"PROMOTE")], retry=False)
        return _decoded(reply, ReplicationState)

    async def compare(self) -> Comparison:
        """As the port says."""
        (reply,) = await self._patient.call([(b"LOG", b"COMPARE")], retry=True)
        return _decoded(reply, Comparison)

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()
        await self._patient.close()


def _decoded(reply: object, kind: type[_T]) -> _T:
    if isinstance(reply, ReplyError):
        if str(reply) in _UNKNOWN:
            raise SetupError("the metadata server is not a zerostor zdb: it has no slaves")
        raise SetupError(str(reply))
    try:
        return msgspec.json.decode(reply if isinstance(reply, bytes) else b"", type=kind)
    except msgspec.DecodeError as error:
        raise MetadataUnavailable(f"the metadata server answers LOG strangely: {error}") from None
