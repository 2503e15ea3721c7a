"""Board in Redis: what gateways, workers and the keeper tell each other. Keys: redis_keys.py.

Three connections at most: short calls, and two that block, for asks and for commands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from zerostor.core.errors import QueueUnavailable
from zerostor.keeper_ports import RepairAsk
from zerostor.queue.redis_keys import QueueKeys
from zerostor.queue.redis_lane import Argument, Lane, connector, reason
from zerostor.queue.redis_scripts import ASK, TAKE_ASKS

ASKS_MAX = 100_000
"""Asks kept, about 25 MB; what is forgotten is found again."""
REASON_MAX = 200
COMMANDS_MAX = 1000
COMMANDS_KEEP = 3600
STATE_MAX = 1024 * 1024
_PART = 1000


class RedisBoard:
    """Adapter of keeper_ports.Board; it connects when first used."""

    def __init__(self, url: str, *, prefix: str = "zerostor", timeout: float = 2.0,
                 asks_max: int = ASKS_MAX) -> None:
        connect = connector(url)
        self._keys = QueueKeys(prefix)
        self._asks_max = asks_max
        self._calls = Lane(connect, timeout=timeout)
        self._taking = Lane(connect, timeout=timeout)
        self._hearing = Lane(connect, timeout=timeout)

    async def ask(self, asks: Sequence[RepairAsk]) -> None:
        """As in keeper_ports.Board."""
        keys = self._keys
        for start in range(0, len(asks), _PART):
            arguments: list[Argument] = [self._asks_max]
            for one in asks[start : start + _PART]:
                arguments += [f"{one.metadata_id} {one.job}", one.spare, one.reason[:REASON_MAX]]
            _checked(await self._calls.evaluate(
                ASK, [keys.asks, keys.ask_reasons, keys.ask_bell], arguments))

    async def take(self, limit: int, wait: float) -> list[RepairAsk]:
        """As in keeper_ports.Board."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait
        while True:
            rows = _checked(await self._taking.evaluate(
                TAKE_ASKS, [self._keys.asks, self._keys.ask_reasons], [limit]))
            asks = [ask for row in rows if (ask := _ask_of(row)) is not None]
            if asks or not await _rung(self._taking, self._keys.ask_bell, deadline - clock()):
                return asks

    async def waiting(self) -> int:
        """As in keeper_ports.Board."""
        return int(await self._call("ZCARD", self._keys.asks))

    async def publish(self, name: str, state: bytes, seconds: float) -> None:
        """As in keeper_ports.Board."""
        assert len(state) <= STATE_MAX, name
        await self._call("SET", self._keys.state(name), state, "PX", max(1, int(seconds * 1000)))

    async def published(self, name: str) -> bytes | None:
        """As in keeper_ports.Board."""
        found: bytes | None = await self._call("GET", self._keys.state(name))
        return found

    async def command(self, name: str, body: bytes) -> None:
        """As in keeper_ports.Board."""
        assert " " not in name
        assert len(body) <= STATE_MAX, name
        key = self._keys.commands
        for reply in await self._calls.call(
                ("RPUSH", key, name.encode() + b" " + body), ("LTRIM", key, -COMMANDS_MAX, -1),
                ("EXPIRE", key, COMMANDS_KEEP)):
            _checked(reply)

    async def commands(self, wait: float) -> list[tuple[str, bytes]]:
        """As in keeper_ports.Board."""
        key = self._keys.commands
        (found,) = await self._hearing.call(("LPOP", key, COMMANDS_MAX))
        if not _checked(found):
            found = await _rung(self._hearing, key, wait)
            found = found[1:] if found else []
        split = [bytes(told).partition(b" ") for told in found]
        return [(name.decode(errors="replace"), body) for name, _, body in split]

    async def close(self) -> None:
        """As in keeper_ports.Board."""
        for lane in (self._calls, self._taking, self._hearing):
            await lane.close()

    async def _call(self, *command: Argument) -> Any:
        (reply,) = await self._calls.call(command)
        return _checked(reply)


async def _rung(lane: Lane, key: str, wait: float) -> Any:
    """What is taken off a list within `wait` seconds, as (key, value), or None."""
    # BLPOP with 0 would wait for ever.
    if wait < 0.001:
        return None
    (reply,) = await lane.call(("BLPOP", key, f"{wait:.3f}"), block=wait)
    return _checked(reply)


def _checked(reply: Any) -> Any:
    if isinstance(reply, ResponseError):
        raise QueueUnavailable(reason(reply))
    return reply


def _ask_of(row: Any) -> RepairAsk | None:
    """None of what is not ours."""
    try:
        member, spare, why = row
        metadata_id, _, job = member.decode().partition(" ")
        return RepairAsk(int(metadata_id), int(spare), why.decode(errors="replace"), job)
    except (ValueError, AttributeError, TypeError):
        return None
