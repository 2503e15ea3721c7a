"""What a zerostor zdb answers to its command LOG, checked."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from zerostor.core.errors import MetadataUnavailable, SetupError
from zerostor.core.msgpack import UNDECODABLE
from zerostor.core.resp import Reply, ReplyError
from zerostor.resp_client import TIMEOUT, Address, Connection, RespClient
from zerostor.zdb_login import Login, log_in

UNKNOWN = ("Command not supported", "Unknown LOG subcommand")
"""What servers answer that are none of ours, or older."""
_T = TypeVar("_T")


def log_client(
    address: Address, login: Login, timeout: float = TIMEOUT, patience: float | None = None
) -> RespClient:
    """One connection, one question at a time. login: of the server's admin."""
    async def greet(connection: Connection) -> None:
        await log_in(connection, login)

    return RespClient(address, greet, connections=1, pipeline=False, timeout=timeout,
                      patience=patience)


def decoded(reply: Reply, kind: type[_T]) -> _T:
    """The JSON in `reply`. Raises what `strange` tells."""
    if not isinstance(reply, bytes):
        raise strange(reply)
    try:
        return msgspec.json.decode(reply, type=kind)
    except UNDECODABLE:
        raise strange(reply) from None


def strange(reply: Reply) -> MetadataUnavailable | SetupError:
    """The error that an answer nobody asked for is."""
    if isinstance(reply, ReplyError):
        if str(reply) in UNKNOWN:
            return SetupError("the metadata server is not a zerostor zdb: it shows no log and has"
                              " no slaves")
        denied = str(reply) == "Permission denied"
        return MetadataUnavailable(
            f"the metadata server answers: {reply}"
            f"{'; it needs the password of its admin: see metadata.password_file' * denied}")
    return MetadataUnavailable("the metadata server answers LOG strangely")
