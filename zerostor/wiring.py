"""Puts the adapters behind the ports: the only module that knows them all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from zerostor import isal
from zerostor.audit_file import AuditFile
from zerostor.clock import SystemClock
from zerostor.config import DEFAULT_STORES, Config
from zerostor.core.cluster_token import ClusterKey
from zerostor.core.codec import Codec
from zerostor.core.container_index import decode_copy
from zerostor.core.errors import BackendError, RecordCorrupt, SetupError
from zerostor.core.gateway_settings import AUDIT_ALL, AUDIT_OFF
from zerostor.core.limits import CELL_SIZE
from zerostor.core.settings import StoreSettings
from zerostor.engine.archivist import Archivist
from zerostor.engine.audit import Audit
from zerostor.engine.buffers import BufferPool
from zerostor.engine.catalog import Catalog
from zerostor.engine.check import Checker
from zerostor.engine.containers import IndexCopies
from zerostor.engine.ingest import DEFAULT_POLICY, Ingest
from zerostor.engine.noticing import Noticing
from zerostor.engine.pool import Policy, StorePool
from zerostor.engine.read import Reader
from zerostor.engine.rebuild import Workshop
from zerostor.engine.recover import Recovery
from zerostor.engine.recovered import Summary
from zerostor.engine.repair import Repairer
from zerostor.engine.salvage import Progress
from zerostor.engine.succession import pool_ahead
from zerostor.engine.write import Writer
from zerostor.event_book import SqliteEventBook, keeping
from zerostor.event_ports import EventBook
from zerostor.gateway_ports import GatewayLink
from zerostor.identity import Identity, cluster_identity, load_identity
from zerostor.index_file import IndexFile
from zerostor.keeper_ports import Board
from zerostor.limit_ports import Buckets, MeasuredSpool
from zerostor.log_ports import Roles, ServedLog
from zerostor.metadata_wiring import log_at, metadata_parts
from zerostor.ports import Clock, JobQueue, MetadataStore, RandomBytes, Spools
from zerostor.queue.redis_board import RedisBoard
from zerostor.queue.redis_buckets import RedisBuckets
from zerostor.queue.redis_streams import RedisJobQueue
from zerostor.roll_file import RollFile
from zerostor.spool.directory import DirectorySpool
from zerostor.spool.remote import RemoteSpool
from zerostor.spool.remote_calls import Gateways
from zerostor.spool.routed import RoutedSpools
from zerostor.store_ports import StoreRoll
from zerostor.store_wiring import RunningStores, open_store
from zerostor.stores.guarded import GuardedStore
from zerostor.stores.rounds import check_stores, log_changes, sweep_stores
from zerostor.zdb.restored_log import DirectoryRestoredLog

READ_CELLS = 96
"""Cells buffered for all downloads of a process together."""
REBUILDS = 4
"""Stripes being rebuilt at once."""
CHECKS = 3
"""Stripes being looked at by hard checks at once."""
REPAIRS = 4
"""Stripes being read by repairs at once."""
WRITE_STRIPES = 5
"""Stripes being read, encoded and written at once."""


@dataclass(frozen=True)
class Parts:
    """Everything a process may need; what it does not use costs next to nothing.

    metadata: records for who reads; leading: for who changes them.
    """

    stores: StorePool
    roll: StoreRoll
    policies: dict[str, Policy]
    metadata: MetadataStore
    leading: MetadataStore
    roles: Roles
    log: ServedLog
    queue: JobQueue
    buckets: Buckets
    board: Board
    events: EventBook
    spool: MeasuredSpool
    spools: Spools
    catalog: Catalog
    reader: Reader
    checker: Checker
    repairer: Repairer
    writer: Writer
    ingest: Ingest
    clock: Clock
    random_bytes: RandomBytes


@contextlib.asynccontextmanager
async def build(config: Config, consumer: str,
                link: GatewayLink | None = None) -> AsyncIterator[Parts]:
    """Open everything in order, close it in reverse. consumer: a unique name of this process.

    link: how gateways of other hosts are reached, where there is a secret to ask them with.
    """
    async with contextlib.AsyncExitStack() as stack:
        clock, random_bytes = SystemClock(), _entropy()
        events = await stack.enter_async_context(event_book(config, clock))
        running = RunningStores(config.store, RollFile(config.paths.roll),
                                str(config.paths.shards_socket), clock)
        stack.push_async_callback(running.close)
        stores = running.pool
        codec_for = _codecs()
        policies = _policies(config, codec_for)
        roles, metadata, leading, log_source, watch = metadata_parts(config, clock)
        for opened in (roles, metadata, leading, log_source):
            stack.push_async_callback(opened.close)
        stack.callback(asyncio.ensure_future(watch).cancel)
        queue = RedisJobQueue(config.redis_login, consumer=consumer)
        stack.push_async_callback(queue.close)
        buckets = RedisBuckets(config.redis_login)
        stack.push_async_callback(buckets.close)
        board = RedisBoard(config.redis_login)
        stack.push_async_callback(board.close)
        spool = DirectorySpool(config.paths.spool)
        stack.push_async_callback(spool.close)
        spools = RoutedSpools(spool)
        if link is not None:
            key = ClusterKey(config.cluster.secret.reveal())
            gateways = Gateways(queue, link, key, consumer, clock, random_bytes)
            spools = RoutedSpools(
                spool, lambda found: RemoteSpool(found, gateways, config.paths.spool, clock),
                gateways.known)
        shards = max(policy.shards for policy in policies.values())
        reader = Reader(stores, BufferPool(CELL_SIZE, READ_CELLS),
                        Workshop(CELL_SIZE, shards, REBUILDS), codec_for)
        writer = Writer(stores, BufferPool(shards * CELL_SIZE, WRITE_STRIPES), random_bytes,
                        clock)
        noticing = Noticing(stores, board, events, clock)
        stack.callback(noticing.close)
        ingest = Ingest(writer, leading, policies, clock, random_bytes)
        reader.noticed, ingest.short = noticing.damaged, noticing.short
        checker = Checker(stores, codec_for, Workshop(CELL_SIZE, shards, CHECKS))
        repairer = Repairer(stores, policies, leading, checker, writer, codec_for,
                            Workshop(CELL_SIZE, shards, REPAIRS), clock)
        secret = config.cluster.secret.reveal()
        for rounds in (check_stores(running.guarded, clock, log_changes),
                       sweep_stores(running.guarded, clock),
                       running.follow(board, ClusterKey(secret) if secret else None)):
            stack.callback(asyncio.ensure_future(rounds).cancel)
        yield Parts(stores, running, policies, metadata, leading, roles, log_source, queue,
                    buckets, board, events, spool, spools,
                    Catalog(metadata), reader, checker, repairer, writer,
                    ingest, clock, random_bytes)


@contextlib.asynccontextmanager
async def event_book(config: Config, clock: Clock) -> AsyncIterator[EventBook]:
    """What this host keeps of events; a file, once there is one."""
    book = SqliteEventBook(config.paths.events, clock, keeping(config.events))
    upkeep = asyncio.ensure_future(book.run())
    try:
        yield book
    finally:
        upkeep.cancel()
        await book.close()


def identity(config: Config) -> Identity:
    """What this zerostor signs with; made first where there is none. Raises SetupError."""
    secret = config.cluster.secret.reveal()
    return cluster_identity(secret) if secret else load_identity(config.paths.identity)


def audit(config: Config, clock: Clock) -> Audit | None:
    """Where it is written down who did what, by this process; None where nothing is."""
    wanted = config.audit
    if wanted.log == AUDIT_OFF:
        return None
    file = AuditFile(config.paths.audit, wanted.size, wanted.keep)
    return Audit(file, clock, reads=wanted.log == AUDIT_ALL)


def archivist(config: Config, parts: Parts) -> Archivist:
    """What keeps the metadata log in the pool. The first time a key is made to sign with."""
    return Archivist(
        parts.log, parts.metadata, parts.stores, parts.writer, parts.policies[DEFAULT_POLICY],
        IndexCopies(parts.stores, IndexFile(config.paths.containers)),
        identity(config), parts.queue, parts.clock, parts.random_bytes,
        config.metadata.archive_every)


async def pool_is_ahead(config: Config, url: str) -> str:
    """What of the metadata log the pool has, and the server at `url` has not, as far as we heard;
    empty if nothing. Raises MetadataUnavailable, SetupError.
    """
    try:
        index = decode_copy(await IndexFile(config.paths.containers).read()).index
    except (RecordCorrupt, BackendError):
        return ""
    # A server that does not answer in time must not pass for one that has everything.
    log = log_at(config, url)
    try:
        return pool_ahead(index, await log.state())
    finally:
        await log.close()


@contextlib.asynccontextmanager
async def stores_alone(
    settings: Sequence[StoreSettings]
) -> AsyncIterator[tuple[StorePool, Reader]]:
    """Stores and what reads from them, without all the rest, for a recovery."""
    async with contextlib.AsyncExitStack() as stack:
        clock = SystemClock()
        guarded = [GuardedStore(open_store(one), clock) for one in settings]
        for store in guarded:
            stack.push_async_callback(store.close)
        await asyncio.gather(*(store.check() for store in guarded))
        checks = asyncio.ensure_future(check_stores(guarded, clock))
        stack.callback(checks.cancel)
        pool = StorePool(guarded, {}, random.SystemRandom())
        yield pool, Reader(pool, BufferPool(CELL_SIZE, READ_CELLS),
                           Workshop(CELL_SIZE, DEFAULT_STORES, REBUILDS), _codecs())


async def recover(
    settings: Sequence[StoreSettings], target: Path, config: Config | None, trusted: bytes | None,
    progress: Progress, *, verify: bool, settle: Callable[[Summary], None] = lambda _: None
) -> Summary:
    """Make the metadata of these stores again in `target`; without `config` only to see.

    settle: called before the log is put in its place. Raises SetupError, MetadataUnavailable.
    """
    clock = SystemClock()
    log = DirectoryRestoredLog(target, clock.now)
    try:
        async with stores_alone(settings) as (stores, reader):
            with tempfile.TemporaryFile(dir=target.parent) as scratch:
                place = IndexFile(config.paths.containers if config else target.parent)
                recovery = Recovery(stores, reader, log, IndexCopies(stores, place), scratch,
                                    clock, progress)
                summary = await recovery.run(trusted, verify=verify)
                if config is not None:
                    settle(summary)
                    await recovery.conclude(identity(config))
                return summary
    except OSError as error:
        # Of files here; what stores answer has errors of its own.
        raise SetupError(f"the recovery stopped, and nothing has changed: {error.strerror}"
                         f" (in {target.parent})") from error
    finally:
        await log.discard()


def _entropy() -> RandomBytes:
    """Random bytes of the system, drawn 4 KiB at a time.

    Each draw gives up the interpreter lock, and waiting for it again costs more than the bytes.
    """
    pool = bytearray()

    def random_bytes(count: int) -> bytes:
        if len(pool) < count:
            pool.extend(os.urandom(4096 + count))
        drawn = bytes(pool[:count])
        del pool[:count]
        return drawn

    return random_bytes


def _codecs() -> Callable[[int, int], Codec]:
    arithmetic = isal.load()

    @lru_cache(64)
    def codec_for(data: int, parity: int) -> Codec:
        return Codec(data, parity, arithmetic)

    return codec_for


def _policies(config: Config, codec_for: Callable[[int, int], Codec]) -> dict[str, Policy]:
    return {name: Policy(name, codec_for(policy.data, policy.parity), policy.durable, CELL_SIZE,
                         tuple(store.name for store in config.store if store.pool == policy.pool),
                         policy.private, policy.pool)
            for name, policy in config.policy.items()}
