"""Commands about the server: who asks, what it does, and raw entries for 0-db's own tools."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from zerostor.core.limits import KIB
from zerostor.core.resp import OK, array, bulk, error, integer
from zerostor.zdb.castagnoli import crc32c
from zerostor.zdb.entry_commands import leading_number
from zerostor.zdb.namespace_commands import burn_nonce, lines
from zerostor.zdb.passwords import matches, new_nonce, proof
from zerostor.zdb.positions import RawEntry, RawMiss
from zerostor.zdb.session import Answer, Command, Refusal, Session, later

ADMIN_PASSWORD_MAX = 128
CRC_PIECE = 64 * KIB
"""Bytes checksummed before others get their turn."""
_RAW_MISSES = {
    RawMiss.END: error("EOF"),
    RawMiss.NO_ENTRY: error("Invalid Request"),
    RawMiss.DAMAGED: error("Unexpected Internal Error"),
}
_DELETED = 1


def _ping(_: Session, __: Sequence[bytes]) -> Answer:
    return b"+PONG\r\n"


def _time(session: Session, _: Sequence[bytes]) -> Answer:
    seconds, micros = divmod(int(session.shared.now() * 1_000_000), 1_000_000)
    return array([bulk(b"%d" % seconds), bulk(b"%d" % micros)])


def _auth(session: Session, arguments: Sequence[bytes]) -> Answer:
    password = session.shared.access.admin_password
    secure = len(arguments) == 3
    if secure and arguments[1].upper() != b"SECURE":
        raise Refusal("Only SECURE extra method supported")
    if secure and arguments[2].upper() == b"CHALLENGE":
        session.nonce = new_nonce()
        return b"+%b\r\n" % session.nonce
    if password is None:
        raise Refusal("Authentication disabled")
    given = arguments[-1]
    if secure:
        nonce = burn_nonce(session, given)
        granted = matches(given.lower(), proof(nonce, password))
    else:
        if len(given) > ADMIN_PASSWORD_MAX:
            raise Refusal("Password too long")
        granted = matches(given, password)
    if not granted:
        session.shared.counters.unauthorized += 1
        raise Refusal("Access denied")
    session.admin = session.told = True
    return OK


def _reports(session: Session, _: Sequence[bytes]) -> Answer:
    sections = session.shared.facts().items()
    return bulk(b"\n".join(lines(title, facts) for title, facts in sections))


def _hooks(_: Session, __: Sequence[bytes]) -> Answer:
    return array([])


def _stop(session: Session, _: Sequence[bytes]) -> Answer:
    """As 0-db's debug build for the admin of a server that stands alone, else as its release."""
    if session.shared.stop is None or not session.admin:
        return error("Unauthorized")
    session.shared.stop()
    return b"+Stopping\r\n"


def _kscan(_: Session, __: Sequence[bytes]) -> Answer:
    return error("Command disabled in release code, not yet available")


def _index(_: Session, arguments: Sequence[bytes]) -> Answer:
    """INDEX DIRTY. Here no file changes once it is closed, so none is ever dirty."""
    words = [word.upper() for word in arguments[1:]]
    if words[0] != b"DIRTY":
        raise Refusal("Unknown INDEX subcommand")
    if len(words) == 1:
        return array([])
    if words[1] != b"RESET":
        raise Refusal("Unknown INDEX DIRTY subcommand")
    return OK


def _data_command(session: Session, arguments: Sequence[bytes]) -> Answer:
    """DATA RAW file offset."""
    if arguments[1].upper() != b"RAW":
        raise Refusal("Unknown DATA subcommand")
    number, offset = leading_number(arguments[2]), leading_number(arguments[3])
    found = session.namespace.log.raw_entry(number, offset)
    if isinstance(found, RawMiss):
        return _RAW_MISSES[found]
    return later(session, _raw_reply(found))


async def _raw_reply(entry: RawEntry) -> bytes:
    crc = 0
    for start in range(0, len(entry.value), CRC_PIECE):
        crc = crc32c(entry.value[start : start + CRC_PIECE], crc)
        await asyncio.sleep(0)
    flags = entry.flags & _DELETED
    return array([
        bulk(entry.key), integer(entry.previous), bulk(b"0x%08x" % crc), integer(flags),
        integer(entry.stamp), bulk(entry.value),
    ])


COMMANDS = (
    Command(b"PING", 0, 1023, _ping, always=True),
    Command(b"TIME", 0, 1023, _time, always=True),
    Command(b"AUTH", 1, 2, _auth, filled=True, always=True),
    Command(b"INFO", 0, 1023, _reports, always=True),
    Command(b"HOOKS", 0, 1023, _hooks, admin=True),
    Command(b"STOP", 0, 1023, _stop),
    Command(b"KSCAN", 0, 1023, _kscan),
    Command(b"INDEX", 1, 1023, _index, admin=True, filled=True, misuse="Missing arguments"),
    Command(b"DATA", 3, 3, _data_command, admin=True, misuse="Missing arguments"),
)
