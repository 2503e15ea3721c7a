"""What comes before a slave becomes the master: nobody else leads, nothing is missing here.

Until the old master is asked to yield nothing was changed anywhere, so every refusal before that
leaves all as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from zerostor.core.errors import MetadataUnavailable
from zerostor.core.replication import ReplicationState, Role
from zerostor.core.resp import ReplyError
from zerostor.zdb.follower import Follower, state_of
from zerostor.zdb.link import Link, LinkFailed, LinkRefused, Peer, linked
from zerostor.zdb.positions import Position
from zerostor.zdb.segments import LogStore

HANDOVER_SECONDS = 30.0
"""In which a slave gets the last entries of a master that has stopped writing."""
NEAR_SECONDS = 5.0
"""In which a slave must be nearly level with a master that lives and writes."""
ASK_SECONDS = 2.0
"""How long the others are waited for."""

Claim = Callable[[Link, int], tuple[bytes, ...]]
"""The words that ask a master to yield to an epoch."""


async def states_of(
    peers: Iterable[Peer], log_id: bytes
) -> list[tuple[Peer, ReplicationState]]:
    """What those of that log tell who answer within ASK_SECONDS.

    At the address of a server that is gone there may be one of another zerostor by now.
    """
    found: list[tuple[Peer, ReplicationState]] = []

    async def ask(peer: Peer) -> None:
        with contextlib.suppress(LinkFailed, TimeoutError):
            async with asyncio.timeout(ASK_SECONDS), linked(peer) as link:
                found.append((peer, await state_of(link)))

    await asyncio.gather(*(ask(peer) for peer in peers))
    return [row for row in found if row[1].log == log_id.hex()]


async def leader_among(
    peers: Iterable[Peer], store: LogStore, reign: tuple[int, str]
) -> Peer | None:
    """Of those who lead this log now, the one of the latest reign, if that is at least `reign`.

    By their own word: of two servers that only waited for each other nobody would lead. None for a
    log that has nothing yet, since nobody can tell whose it would be.
    """
    if not store.log_id:
        return None
    leading = [(state.reign, peer) for peer, state in await states_of(peers, store.log_id)
               if state.writable and state.reign >= reign]
    return max(leading, key=lambda row: row[0], default=(reign, None))[1]


def check_that_none_leads(
    others: list[tuple[Peer, ReplicationState]], reign: tuple[int, str]
) -> None:
    """Raise MetadataUnavailable if one of `others` is the master of a later reign than ours."""
    for peer, state in others:
        if state.writable and state.reign > reign:
            raise MetadataUnavailable(
                f"{peer} was promoted already (epoch {state.epoch}) and leads: let this one follow"
                " it with --slave-of, then promote; or stop it first")


def check_that_none_has_more(
    others: list[tuple[Peer, ReplicationState]], store: LogStore
) -> None:
    """Raise MetadataUnavailable if a slave of the same master got more of its log than we did."""
    for peer, state in others:
        end = Position(state.file, state.offset)
        if state.role is Role.SLAVE and state.reign == store.reign and end > store.durable:
            raise MetadataUnavailable(
                f"{peer} has more of the old master's log (next id {state.next_id}, and"
                f" {store.next_id} here): promote that one, or stop it first")


async def hand_over(follower: Follower, claim: Claim, least: int) -> int | None:
    """Have the old master yield and get its last entries; the epoch to begin, at least `least`.

    None if it cannot be reached. Raises MetadataUnavailable if it lives and will not, or this slave
    is too far behind.
    """
    master = follower.master
    try:
        async with linked(master) as link:
            theirs = await state_of(link)
            if theirs.role is Role.SLAVE:
                raise MetadataUnavailable(
                    f"{master} is itself a slave, of {theirs.master}: promote that one, let this"
                    " one follow the master, or stop it first")
            await _come_near(follower)
            epoch = max(least, theirs.newest_reign[0] + 1)
            reply = await link.call(*claim(link, epoch))
    except LinkRefused as error:
        raise MetadataUnavailable(f"the master {master} lives, and cannot be asked to stop writing"
                                  f" ({error}): stop it first") from None
    except LinkFailed:
        return None
    if isinstance(reply, ReplyError):
        raise MetadataUnavailable(f"the old master refuses to step down: {reply}")
    match reply:
        case [int() as number, int() as offset]:
            await _wait_for(follower.store, Position(number, offset))
    return epoch


async def _come_near(follower: Follower) -> None:
    try:
        async with asyncio.timeout(NEAR_SECONDS):
            while True:
                if follower.nearly_level:
                    return
                await asyncio.sleep(0.01)
    except TimeoutError:
        what = (f"is {follower.behind_bytes} bytes behind it" if follower.connected
                else f"does not follow it: {follower.problem}")
        raise MetadataUnavailable(
            f"nothing was changed: the master {follower.master} lives, and this slave {what};"
            " promote it once it has caught up, or stop the master first") from None


async def _wait_for(store: LogStore, end: Position) -> None:
    try:
        async with asyncio.timeout(HANDOVER_SECONDS):
            while True:
                if store.durable >= end:
                    return
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise MetadataUnavailable(
            "the old master has stopped writing, but this slave does not get its last entries"
            " within 30 s: promote again once it has, or stop the old master first") from None


async def epoch_durable(store: LogStore) -> None:
    """Return when what was written last is on the disk. Raises MetadataUnavailable if it is not."""
    batch = store.newest
    if batch is not None:
        await batch.ended()
        if batch.error is not None:
            raise MetadataUnavailable(f"the epoch cannot be written: {batch.error}")
