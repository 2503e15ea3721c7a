"""WAIT: told when another connection on the namespace runs a command. Replies come out of order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from zerostor.core.resp import error
from zerostor.zdb.namespaces import Namespace
from zerostor.zdb.session import NO_REPLY, Answer, Command, Refusal, Session

ANY = b"*"
WAIT_DEFAULT = 5000
WAIT_MIN = 100
WAIT_MAX = 1_800_000
"""Milliseconds."""
_TIMEOUT = error("Timeout")

KNOWN = frozenset(
    b"* WAIT MIRROR MASTER PING TIME AUTH HOOKS INDEX DATA SET SETX GET MGET DEL EXISTS CHECK SCAN"
    b" SCANX RSCAN KSCAN HISTORY KEYCUR LENGTH KEYTIME INFO STOP DBSIZE NSNEW NSDEL NSLIST NSSET"
    b" NSINFO NSJUMP SELECT RELOAD FLUSH".split()
)
"""What can be waited for: the commands of 0-db."""


def tell(namespace: Namespace, actor: Session, name: bytes) -> None:
    """Wake those who wait for the command that `actor` has run."""
    for watched in (name, ANY):
        for waiter, wake in list(namespace.watches.get(watched, {}).items()):
            if waiter is not actor:
                wake(b"+%b\r\n" % name)


def _wait(session: Session, arguments: Sequence[bytes]) -> Answer:
    name = arguments[1].upper()
    if name not in KNOWN:
        raise Refusal("Unknown command to watch")
    wait = WAIT_DEFAULT
    if len(arguments) > 2:
        raw = arguments[2]
        wait = int(raw) if raw.isdigit() and len(raw) <= 16 else 0
        if not WAIT_MIN <= wait <= WAIT_MAX:
            raise Refusal("Invalid timeout")
    if session.unwatch is not None:
        session.unwatch()  # one per connection, as in 0-db: the new one takes the old one's place
    _watch(session, name, wait / 1000)
    return NO_REPLY


def _watch(session: Session, name: bytes, seconds: float) -> None:
    watches = session.namespace.watches

    def end() -> None:
        timer.cancel()
        session.unwatch = None
        waiters = watches[name]
        del waiters[session]
        if not waiters:
            del watches[name]

    def wake(reply: bytes) -> None:
        end()
        session.peer.push(reply)

    timer = asyncio.get_running_loop().call_later(seconds, wake, _TIMEOUT)
    watches.setdefault(name, {})[session] = wake
    session.unwatch = end


def _asterisk(_: Session, __: Sequence[bytes]) -> Answer:
    return error("This is not a valid command")


COMMANDS = (
    Command(ANY, 0, 1023, _asterisk),
    Command(b"WAIT", 1, 2, _wait, misuse="Invalid arguments"),
)
