"""What a command works with: the session of its connection, what all share, what it may answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from zerostor.core.errors import ZerostorError
from zerostor.core.resp import error
from zerostor.zdb.namespaces import Namespace, Namespaces, Pause
from zerostor.zdb.replication import Replication
from zerostor.zdb.segments import Batch, LogStore

log = logging.getLogger(__name__)

DENIED = error("Permission denied")
NO_REPLY = b""
"""Answers nothing now; what the command waits for is pushed later, out of order."""


class Work(Pause):
    """A reply that a task prepares; requests behind it go on. reply: sent when it is done."""

    __slots__ = ("reply",)

    def __init__(self) -> None:
        super().__init__()
        self.reply = b""


class Held(NamedTuple):
    """A reply to keep until `batch` is done; if the batch fails, its error goes out instead."""

    reply: bytes
    batch: Batch | Work


class Parting(NamedTuple):
    """The last reply of a connection, which is closed behind it."""

    reply: bytes


Answer: TypeAlias = bytes | Held | Parting


class Refusal(Exception):
    """Ends a command with this error reply."""


class Peer(Protocol):
    """The connection as commands see it that go on after their reply: WAIT, replication."""

    def push(self, reply: bytes) -> bool:
        """Send now, before replies that still wait for the disk.

        False if the peer takes no more for now: `Session.on_room` is called when it does. Nothing
        is sent once the connection is lost, and `Session.at_end` was called then.
        """

    def abort(self) -> None:
        """End the connection at once, whatever was not sent."""


@dataclass(slots=True)
class Counters:
    """Since the start; what INFO tells. requests: all, those that failed included."""

    clients: int = 0
    requests: int = 0
    failed: int = 0
    unauthorized: int = 0
    received: int = 0
    sent: int = 0


class Access(NamedTuple):
    """Who may do what. admin_password: None makes everyone an admin.

    closed: over TCP nothing is told before AUTH. trusted: the unix socket needs no AUTH.
    protect: `default` is read-only until it is selected with the admin password.
    """

    admin_password: bytes | None = None
    closed: bool = False
    trusted: bool = False
    protect: bool = False

    def __repr__(self) -> str:
        return f"Access({'***' if self.admin_password is not None else None})"


class Shared(NamedTuple):
    """What the sessions of a server share. facts: sections and lines of INFO.

    stop: ends the server; None where only its supervisor may.
    """

    now: Callable[[], float]
    namespaces: Namespaces
    access: Access
    counters: Counters
    facts: Callable[[], Mapping[str, Mapping[str, str | int]]]
    replication: Replication
    stop: Callable[[], None] | None


class Session:
    """One connection's state. writable: decided when the namespace was selected.

    told: False while nothing is told before AUTH. nonce: of the last challenge, used once.
    at_end: called when the connection is gone. on_room: see `Peer.push`. unwatch: ends its WAIT.
    """

    __slots__ = (
        "admin", "at_end", "namespace", "nonce", "on_room", "peer", "shared", "told", "unwatch",
        "writable",
    )

    def __init__(self, shared: Shared, peer: Peer, *, unix: bool) -> None:
        access = shared.access
        trusted = access.admin_password is None or (unix and access.trusted)
        self.shared = shared
        self.peer = peer
        self.admin = trusted
        self.told = trusted or not access.closed
        self.nonce: bytes | None = None
        self.namespace: Namespace = shared.namespaces.default
        self.writable = not access.protect
        self.at_end: list[Callable[[], None]] = []
        self.on_room: Callable[[], None] | None = None
        self.unwatch: Callable[[], None] | None = None


Handler: TypeAlias = Callable[[Session, Sequence[bytes]], Answer]


class Command(NamedTuple):
    """A row of the table. least, most: arguments after the name; misuse: the reply otherwise.

    admin: for admins only. filled: an argument may not be empty. always: also before AUTH on a
    closed server.
    """

    name: bytes
    least: int
    most: int
    handler: Handler
    admin: bool = False
    filled: bool = False
    always: bool = False
    misuse: str = "Unexpected arguments"


def held(store: LogStore, reply: bytes) -> Answer:
    """`reply`, after everything that was written so far."""
    batch = store.newest
    return reply if batch is None else Held(reply, batch)


def later(session: Session, work: Coroutine[None, None, bytes]) -> Answer:
    """The reply that `work` returns; what it raises is answered as "Internal Error"."""
    promise = Work()

    async def run() -> None:
        reply = error("Internal Error")
        try:
            reply = await work
        except (ZerostorError, OSError) as failure:
            log.error("%s", failure)
        finally:
            promise.reply = reply
            promise.finish()

    session.shared.namespaces.background(run())
    return Held(b"", promise)
