"""Puts stores behind their port, and lets them come and go while a process runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from zerostor.clock import SystemClock
from zerostor.config import Config
from zerostor.core.cluster_token import ClusterKey
from zerostor.core.errors import BackendError, SetupError
from zerostor.core.health import StoreState
from zerostor.core.roll import Roll, RollEntry, decode_roll, encode_roll, merged
from zerostor.core.settings import StoreSettings
from zerostor.core.store_settings import check_stores
from zerostor.engine.pool import StoreLabels, StorePool
from zerostor.keeper_ports import Board
from zerostor.ports import Clock
from zerostor.roll_file import RollFile, with_password
from zerostor.stores import folder_marker, zdb_namespace
from zerostor.stores.directory import DirectoryStore
from zerostor.stores.guarded import GuardedStore
from zerostor.stores.node import NodeStore
from zerostor.stores.zdb import ZdbStore

ROLL_SECONDS = 2.0
"""How often a process looks whether something was said of stores."""
SHARED_EVERY = 5
"""Looks at what other hosts say, one in so many of those."""
SHARED_SECONDS = 86_400.0
LAST_CALLS = 60.0
"""Seconds after which a store that was removed is closed: calls may be under way."""
_BOARD_NAME = "roll"

_log = logging.getLogger(__name__)


class RunningStores:
    """Adapter of store_ports.StoreRoll: the stores of this process, as they are said to be.

    guarded: those that are looked at; the list changes. pool: what the engine knows them by.
    """

    def __init__(self, settings: Sequence[StoreSettings], file: RollFile, hub: str,
                 clock: Clock) -> None:
        """settings: with the roll of now laid over them. hub: the socket of nodes. Raises
        SetupError.
        """
        self._file = file
        self._hub = hub
        self._clock = clock
        self._settings = {one.name: one for one in settings}
        self._roll = file.read()
        self._closing: set[asyncio.Task[None]] = set()
        self._told = ""
        self.guarded = [GuardedStore(open_store(one), clock) for one in settings]
        self.pool = StorePool(self.guarded, {one.name: labels_of(one) for one in settings},
                              random.SystemRandom())
        self.pool.draining, self.pool.removed = self._roll.draining, self._roll.removed

    @property
    def settings(self) -> Sequence[StoreSettings]:
        """Of the stores that there are now."""
        return tuple(self._settings.values())

    @property
    def roll(self) -> Roll:
        """What was said of stores, as far as this process knows."""
        return self._roll

    async def say(self, entry: RollEntry) -> Roll:
        """Have the last word on a store: durable and true here on return. Raises SetupError."""
        return await self.change(lambda before: before.said(entry))

    async def change(self, edit: Callable[[Roll], Roll]) -> Roll:
        """Durable and true here on return. Raises SetupError."""
        roll = await asyncio.to_thread(self._file.change, edit)
        await self._apply(roll)
        return roll

    async def start(self, settings: StoreSettings) -> str:
        """Make its place that of the store; what the operator should know of it, or nothing.

        Raises SetupError when it is that of another or not empty, StoreUnavailable.
        """
        with_hub = msgspec.structs.replace(settings, hub=self._hub if settings.node else "")
        check_stores([*self.settings, with_hub])
        self._file.require_own(with_hub)
        return await asyncio.to_thread(start_store, with_password(with_hub))

    async def follow(self, board: Board, key: ClusterKey | None) -> None:
        """Until cancelled. key: of the cluster; without one nothing of other hosts is believed."""
        looks = 0
        while True:
            try:
                if looks == 0 or self._file.changed():
                    await self._apply(await asyncio.to_thread(self._file.read))
                looks += 1
                if key is not None and looks % SHARED_EVERY == 0:
                    with contextlib.suppress(BackendError):
                        await self._share(board, key)
            except SetupError as error:
                if str(error) != self._told:
                    self._told = str(error)
                    _log.warning("%s", error)
            else:
                self._told = ""
            await self._clock.sleep(ROLL_SECONDS)

    async def _share(self, board: Board, key: ClusterKey) -> None:
        published = await board.published(_BOARD_NAME)
        shared = key.opened(_BOARD_NAME, published) if published is not None else None
        other = Roll() if shared is None else decode_roll(shared)
        roll = merged(self._roll, other)
        if roll != self._roll:
            await self._apply(await asyncio.to_thread(
                self._file.change, lambda before: merged(before, other)))
        if roll != other or (shared is None and roll != Roll()):
            await board.publish(_BOARD_NAME, key.closed(_BOARD_NAME, encode_roll(roll)),
                                SHARED_SECONDS)

    async def _apply(self, roll: Roll) -> None:
        for entry in roll.stores:
            known = self._settings.get(entry.name)
            if entry.removed and known is not None:
                self._remove(entry.name)
            elif entry.url and not entry.removed and (
                    known is None or known.place != entry.settings.place):
                await self._add(entry.settings)
        self._roll = roll
        self.pool.draining, self.pool.removed = roll.draining, roll.removed

    async def _add(self, settings: StoreSettings) -> None:
        settings = await asyncio.to_thread(with_password, settings)
        if settings.node:
            settings = msgspec.structs.replace(settings, hub=self._hub)
        if settings.name in self._settings:
            self._remove(settings.name)
        store = GuardedStore(open_store(settings), self._clock)
        await store.check()
        self.guarded.append(store)
        self._settings[settings.name] = settings
        self.pool.add(store, labels_of(settings))
        _log.info("store %s was added, at %s", settings.name, settings.url)

    def _remove(self, name: str) -> None:
        del self._settings[name]
        self.pool.removed |= {name}
        for store in [store for store in self.guarded if store.name == name]:
            self.guarded.remove(store)
            store.retire("it was removed")
            closing = asyncio.ensure_future(self._close_later(store))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        _log.info("store %s was removed", name)

    async def _close_later(self, store: GuardedStore) -> None:
        try:
            await self._clock.sleep(LAST_CALLS)
        finally:
            await store.close()

    async def close(self) -> None:
        """Close all stores."""
        for closing in list(self._closing):
            closing.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        for store in self.guarded:
            await store.close()


def store_name(settings: StoreSettings) -> str:
    """The name that the marker in a place gives it. Raises SetupError, StoreUnavailable."""
    if settings.node:
        return settings.name or settings.node
    place = settings.namespace
    if place is None:
        return folder_marker.name_in(settings.folder)
    return asyncio.run(zdb_namespace.name_in(place, settings.password.reveal()))


def open_store(settings: StoreSettings) -> DirectoryStore | ZdbStore | NodeStore:
    """The adapter for its address; nothing is asked of it yet."""
    if settings.node:
        return NodeStore(settings.name, settings.node, Path(settings.hub))
    place = settings.namespace
    if place is None:
        return DirectoryStore(settings.name, settings.folder)
    return ZdbStore(settings.name, place, settings.password.reveal())


def start_store(settings: StoreSettings) -> str:
    """Make a place the store, on purpose: its folder or namespace, and the marker in it.

    Returns what the operator should know of it, or nothing. Raises SetupError when it is that of
    another or not empty, StoreUnavailable.
    """
    if settings.node:
        return f"let the node dial in: `zerostor node add {settings.node}`"
    place = settings.namespace
    if place is None:
        folder_marker.initialise(settings.folder, settings.name)
        return ""
    started = asyncio.run(
        zdb_namespace.initialise(settings.name, place, settings.password.reveal()))
    notes = []
    if not started.ours:
        notes.append("a 0-db of the original project survives a power cut only if it was started"
                     " with --sync")
    if started.unguarded:
        notes.append(f"whoever reaches {place.server} can read and change it, for the namespace has"
                     " no password; its admin can set yours with NSSET"
                     f" {place.namespace} password")
    return "; ".join(notes)


def labels_of(settings: StoreSettings) -> StoreLabels:
    """Its failure domains and its pool."""
    return StoreLabels(settings.host, settings.labels.get("site", settings.name),
                       settings.labels.get("owner", ""), bool(settings.node), settings.pool)


async def try_stores(config: Config) -> dict[str, str]:
    """By name: why the store does not serve, empty when it does."""
    clock = SystemClock()

    async def reason(settings: StoreSettings) -> str:
        store = GuardedStore(open_store(settings), clock)
        try:
            return "" if await store.check() is StoreState.UP else store.reason
        finally:
            await store.close()

    reasons = await asyncio.gather(*map(reason, config.store))
    return {settings.name: why for settings, why in zip(config.store, reasons, strict=True)}
