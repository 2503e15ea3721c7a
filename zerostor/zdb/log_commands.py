"""LOG: the log itself, for slaves, for copies of it elsewhere, and for who promotes. Admins only.

    LOG STATE [URL]              JSON, core.replication.ReplicationState; URL: the asking gateway's
    LOG ID                       16 bytes that tell this log from every other
    LOG FILES                    JSON, [[number, size, closed], ...], up to what is on disk
    LOG READ FILE OFFSET SIZE    raw bytes; empty where there are none (yet)
    LOG DIGEST FILE SIZE         BLAKE3 of the first SIZE bytes of a file; nil if it is shorter
    LOG FOLLOW SERVER URL FILE OFFSET   +OK, then messages without end, see zerostor/zdb/feed.py
    LOG ACK FILE OFFSET          a slave has everything before; no reply
    LOG YIELD EPOCH URL GATEWAY SERVER  write no more, SERVER is being promoted; refused if another
                                        one is; replies [file, offset], the end of the log
    LOG SUPERSEDED EPOCH URL [GATEWAY [SERVER]]  as YIELD, of a server that was promoted
    LOG PROMOTE                  JSON as of STATE, once this slave is the master
    LOG COMPARE                  JSON, core.replication.Comparison, of a slave with its master
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import NamedTuple

import msgspec

from zerostor.core.errors import MetadataUnavailable, SetupError
from zerostor.core.limits import MIB
from zerostor.core.resp import NIL, OK, array, bulk, error, integer
from zerostor.zdb.feed import Feed
from zerostor.zdb.positions import Position
from zerostor.zdb.replication import Replication
from zerostor.zdb.session import NO_REPLY, Answer, Command, Refusal, Session, held, later

READ_MAX = MIB
"""Bytes in one reply to LOG READ."""
_NUMBER_DIGITS = 15


class _Part(NamedTuple):
    """A subcommand. least, most: arguments after its name."""

    least: int
    most: int
    handler: Callable[[Session, Replication, Sequence[bytes]], Answer]


def _log(session: Session, arguments: Sequence[bytes]) -> Answer:
    replication = session.shared.replication
    part = _PARTS.get(arguments[1].upper())
    if part is None or replication is None:
        raise Refusal("Unknown LOG subcommand")
    given = arguments[2:]
    if not part.least <= len(given) <= part.most:
        raise Refusal("Unexpected arguments")
    if session.namespace.log is not replication.store:
        raise Refusal("Only the log of the default namespace is copied")
    try:
        return part.handler(session, replication, given)
    except (SetupError, MetadataUnavailable) as reason:
        raise Refusal(str(reason)) from None


def _number(raw: bytes) -> int:
    if not raw.isdigit() or len(raw) > _NUMBER_DIGITS:
        raise Refusal("Invalid number")
    return int(raw)


def _position(file: bytes, offset: bytes) -> Position:
    return Position(_number(file), _number(offset))


def _state(_: Session, replication: Replication, given: Sequence[bytes]) -> Answer:
    if given:
        replication.gateway = given[0].decode("utf-8", "replace")
    return bulk(msgspec.json.encode(replication.state()))


def _identity(_: Session, replication: Replication, __: Sequence[bytes]) -> Answer:
    return bulk(replication.store.log_id)


def _files(_: Session, replication: Replication, __: Sequence[bytes]) -> Answer:
    rows = [(file.number, file.size, file.closed) for file in replication.store.log_files()]
    return bulk(msgspec.json.encode(rows))


def _read(session: Session, replication: Replication, given: Sequence[bytes]) -> Answer:
    number, offset, size = map(_number, given)
    store = replication.store

    async def read() -> bytes:
        return bulk(await asyncio.to_thread(store.read_log, number, offset, min(size, READ_MAX)))

    return later(session, _told(read()))


def _digest(session: Session, replication: Replication, given: Sequence[bytes]) -> Answer:
    number, size = map(_number, given)
    store = replication.store
    if not any(file.number == number and size <= file.size for file in store.log_files()):
        return NIL

    async def digest() -> bytes:
        return bulk(await store.digest(number, size))

    return later(session, _told(digest()))


def _follow(session: Session, replication: Replication, given: Sequence[bytes]) -> Answer:
    slave, address, *place = given
    if session in replication.feeds:
        raise Refusal("This connection follows already")
    feed = Feed(session.peer.push, replication.store, _position(*place),
                slave=slave.decode("utf-8", "replace"), address=address.decode("utf-8", "replace"),
                gateway=lambda: replication.gateway, others=replication.known,
                hang_up=session.peer.abort, now=session.shared.now)
    replication.admit(session, feed)
    session.on_room = feed.has_room
    end = feed.start()

    def gone() -> None:
        end()
        replication.feeds.pop(session, None)

    session.at_end.append(gone)
    return OK


def _ack(session: Session, replication: Replication, given: Sequence[bytes]) -> Answer:
    feed = replication.feeds.get(session)
    if feed is None:
        raise Refusal("This connection follows nothing")
    feed.confirm(_position(*given))
    return NO_REPLY


def _yield(session: Session, replication: Replication, given: Sequence[bytes]) -> Answer:
    replication.check_claim(_number(given[0]), given[3].decode("utf-8", "replace"))
    return _superseded(session, replication, given)


def _superseded(_: Session, replication: Replication, given: Sequence[bytes]) -> Answer:
    epoch, *texts = given
    replication.supersede(_number(epoch), *(text.decode("utf-8", "replace") for text in texts))
    tip = replication.store.tip
    return held(replication.store, array([integer(tip.number), integer(tip.offset)]))


def _promote(session: Session, replication: Replication, _: Sequence[bytes]) -> Answer:
    async def promote() -> bytes:
        return bulk(msgspec.json.encode(await replication.promote(session.peer)))

    return later(session, _told(promote()))


def _compare(session: Session, replication: Replication, _: Sequence[bytes]) -> Answer:
    async def compare() -> bytes:
        return bulk(msgspec.json.encode(await replication.compare()))

    return later(session, _told(compare()))


async def _told(work: Coroutine[None, None, bytes]) -> bytes:
    """What `work` returns; errors that are meant for people as replies."""
    try:
        return await work
    except (SetupError, MetadataUnavailable) as reason:
        return error(str(reason))


_PARTS: Mapping[bytes, _Part] = {
    b"STATE": _Part(0, 1, _state),
    b"ID": _Part(0, 0, _identity),
    b"FILES": _Part(0, 0, _files),
    b"READ": _Part(3, 3, _read),
    b"DIGEST": _Part(2, 2, _digest),
    b"FOLLOW": _Part(4, 4, _follow),
    b"ACK": _Part(2, 2, _ack),
    b"YIELD": _Part(4, 4, _yield),
    b"SUPERSEDED": _Part(2, 4, _superseded),
    b"PROMOTE": _Part(0, 0, _promote),
    b"COMPARE": _Part(0, 0, _compare),
}

COMMANDS = (Command(b"LOG", 1, 5, _log, admin=True),)
