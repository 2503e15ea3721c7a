"""Volumes that packs are appended to: which are open, and when each is let go of.

Nobody appends to one that was begun more than VOLUME_AGE ago, or not used for VOLUME_IDLE, and what
lies well behind that is closed (engine/volumes.py): its shards may be made again and moved whole.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from zerostor.core.limits import VOLUME_AGE, VOLUME_IDLE, VOLUME_PACKS, VOLUME_SHARD_SIZE
from zerostor.engine.pool import Policy, StorePool
from zerostor.engine.shard_set import ShardSet
from zerostor.ports import Clock


class Moment(NamedTuple):
    """A time on both clocks: one stands still while the machine sleeps, the other may be set."""

    steady: float
    wall: float


class Volume(NamedTuple):
    """Shards that packs are appended to, and when they were begun and used last."""

    shards: ShardSet
    begun: Moment
    used: Moment


class OpenVolumes:
    """Those of one writer that nobody appends to right now, by policy."""

    def __init__(self, stores: StorePool, clock: Clock) -> None:
        self._stores = stores
        self._clock = clock
        self._open: dict[str, list[Volume]] = {}
        self._letting_go: asyncio.Task[None] | None = None

    def begin(self, shards: ShardSet) -> Volume:
        """A new one."""
        now = self._now()
        return Volume(shards, now, now)

    async def take(self, policy: Policy) -> Volume | None:
        """One to append to, which nobody else has meanwhile; None if there is none."""
        await self._let_go()
        volumes = self._open.get(policy.name)
        return volumes.pop() if volumes else None

    async def keep(self, volume: Volume, policy: Policy) -> None:
        """For the next pack, unless it is full or a better placement may be had."""
        shards = volume.shards
        wide = shards.width >= self._stores.best_width(policy)
        full = shards.size >= VOLUME_SHARD_SIZE or shards.packs >= VOLUME_PACKS
        if full or not wide:
            await shards.abort()
            return
        self._open.setdefault(policy.name, []).append(volume._replace(used=self._now()))
        if self._letting_go is None:
            self._letting_go = asyncio.ensure_future(self._let_go_in_time())

    async def close(self) -> None:
        """End all; what is in them is durable already."""
        if self._letting_go is not None:
            self._letting_go.cancel()
        volumes = [volume for each in self._open.values() for volume in each]
        self._open.clear()
        for volume in volumes:
            await volume.shards.abort()

    async def _let_go_in_time(self) -> None:
        """Files that nobody uses any more must not keep a disk from being unplugged."""
        while any(self._open.values()):
            await self._clock.sleep(VOLUME_IDLE / 10)
            await self._let_go()
        self._letting_go = None

    async def _let_go(self) -> None:
        old = []
        for name, volumes in self._open.items():
            stay = [volume for volume in volumes if self._usable(volume)]
            old += [volume for volume in volumes if volume not in stay]
            self._open[name] = stay
        for volume in old:
            await volume.shards.abort()

    def _usable(self, volume: Volume) -> bool:
        leaving = self._stores.draining.union(
            name for name in volume.shards.places if not self._stores.known(name))
        return (self._since(volume.used) < VOLUME_IDLE and self._since(volume.begun) < VOLUME_AGE
                and leaving.isdisjoint(volume.shards.places))

    def _now(self) -> Moment:
        return Moment(self._clock.monotonic(), self._clock.now())

    def _since(self, then: Moment) -> float:
        now = self._now()
        return max(now.steady - then.steady, now.wall - then.wall)
