"""Masters and slaves, asked of a zerostor zdb by its command LOG."""

from __future__ import annotations

from zerostor.core.replication import Comparison, ReplicationState
from zerostor.core.resp import ReplyError
from zerostor.metadata.log_replies import UNKNOWN, decoded, log_client, strange
from zerostor.resp_client import TIMEOUT, Address
from zerostor.zdb_login import Login

LONG = 120.0
"""Seconds for a promotion, which waits for the last entries, and for a comparison of all files."""
NO_LOGIN = Login()


class ZdbReplication:
    """Adapter of ports.Replication."""

    def __init__(self, address: Address, login: Login = NO_LOGIN, *, timeout: float = TIMEOUT,
                 patience: float | None = None) -> None:
        """Connects when first used. login: of the server's admin. timeout, patience: seconds, as of
        RespClient, for `state`.
        """
        self._client = log_client(address, login, timeout, patience)
        # Promotions and comparisons take their time; who asks for the state must not wait for them.
        self._patient = log_client(address, login, LONG)

    async def state(self, gateway: str = "") -> ReplicationState | None:
        """As the port says."""
        words = [b"LOG", b"STATE", *([gateway.encode()] if gateway else [])]
        (reply,) = await self._client.call([words], retry=True)
        if isinstance(reply, ReplyError) and str(reply) in UNKNOWN:
            return None
        return decoded(reply, ReplicationState)

    async def promote(self) -> ReplicationState:
        """As the port says."""
        (reply,) = await self._patient.call([(b"LOG", b"PROMOTE")], retry=False)
        return decoded(reply, ReplicationState)

    async def compare(self) -> Comparison:
        """As the port says."""
        (reply,) = await self._patient.call([(b"LOG", b"COMPARE")], retry=True)
        return decoded(reply, Comparison)

    async def end_file(self) -> None:
        """As the port says."""
        (reply,) = await self._patient.call([(b"NSJUMP",)], retry=True)
        if reply != "OK":
            raise strange(reply)

    async def reload(self) -> None:
        """As the port says."""
        (reply,) = await self._patient.call([(b"RELOAD", b"default")], retry=True)
        if reply != "OK":
            raise strange(reply)

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()
        await self._patient.close()
