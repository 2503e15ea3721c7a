"""The job queue on Redis Streams: one stream, one consumer group, leases, one stream of updates.

Four connections at most: changes and questions, which are coalesced, and two that block, for claims
and for updates. Keys: redis_keys.py. What is atomic: redis_scripts.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from zerostor.core.errors import QueueUnavailable
from zerostor.core.jobs import Claim, JobState, JobUpdate, QueueDepth
from zerostor.core.limits import RESULT_KEEP
from zerostor.core.msgpack import UNDECODABLE
from zerostor.queue.coalescer import Coalescer
from zerostor.queue.redis_events import EventTail
from zerostor.queue.redis_keys import (
    EVENTS_MAX,
    GROUP,
    RESULTS_MAX,
    SPOOLS_KEEP,
    SPOOLS_MAX,
    QueueKeys,
)
from zerostor.queue.redis_lane import Argument, Lane, connector, reason
from zerostor.queue.redis_scripts import APPLY, JOIN, LEAVE, TEND

BATCH = 512
"""Changes or questions in one call; about 10 ms of the server."""
CALLERS_MAX = 65_536
NOTE_DELAY = 0.05
"""Seconds that progress may wait for more of it."""
CONSUMER_OLD = 3600.0
"""Seconds of silence after which a consumer without claims is dropped."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(JobUpdate).decode


class Change(NamedTuple):
    """One step of the script APPLY. name: a function there; delay: ms."""

    name: str
    job: str
    token: str = ""
    deliveries: int = 0
    delay: int = 0
    update: bytes = b""
    spool: str = ""


class RedisJobQueue:
    """Adapter of ports.JobQueue; it connects when first used.

    consumer: a name for this process that no other live one has. lease: seconds after which the
    claims of a process that died are given to others; looked for every lease / 3. timeout: seconds
    after which a call to Redis is given up. keep: seconds that the state of a job is known.
    """

    def __init__(
        self,
        url: str,
        *,
        consumer: str,
        lease: float = 6.0,
        prefix: str = "zerostor",
        timeout: float = 2.0,
        keep: float = RESULT_KEEP,
    ) -> None:
        self._connect = connector(url)
        self._keys = QueueKeys(prefix)
        self._consumer = consumer
        self._lease = lease
        self._timeout = timeout
        self._keep_ms = int(keep * 1000)
        self._writes = self._lane()
        self._reads = self._lane()
        self._claims = self._lane()
        self._tails: set[EventTail] = set()
        self._changes = Coalescer(self._apply, limit=BATCH, most=CALLERS_MAX)
        self._questions = Coalescer(self._known, limit=BATCH, most=CALLERS_MAX)
        self._notes: dict[str, JobUpdate] = {}
        self._held: set[str] = set()
        self._renewal: asyncio.Task[None] | None = None
        self._tend_at = 0.0
        self._cursor = "0-0"

    def _lane(self, *, retry: bool = True) -> Lane:
        return Lane(self._connect, timeout=self._timeout, retry=retry)

    # What the gateway asks.

    async def add(self, jobs: Sequence[str], *, spool: str = "", force: bool = False) -> None:
        """As in ports.JobQueue. Costs a share of one script call for all who add at a time."""
        flag = "1" if force else "0"
        queued = [JobUpdate(job, JobState.ACTIVE) for job in jobs]
        await self._change(
            [Change("add", update.job, flag, 0, 0, _encode(update), spool) for update in queued]
        )

    async def forget(self, jobs: Sequence[str]) -> None:
        """As in ports.JobQueue."""
        await self._change([Change("forget", job) for job in jobs])

    async def status(self, job: str) -> JobUpdate | None:
        """As in ports.JobQueue. Costs a share of one MGET for all who ask at a time."""
        return (await self._questions.submit((job,)))[0]

    async def watch(self) -> AsyncIterator[JobUpdate]:
        """As in ports.JobQueue; one blocking connection, so call it once a process."""
        tail = EventTail(self._lane(retry=False), self._keys.events)
        self._tails.add(tail)
        try:
            async for update in tail.updates():
                yield update
        finally:
            self._tails.discard(tail)
            await tail.close()

    # What the worker asks.

    async def claim(self, limit: int, wait: float) -> list[Claim]:
        """As in ports.JobQueue. Also queues delayed jobs that are due: some worker must."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._renew())
        while True:
            if clock() >= self._tend_at and (claims := await self._tend(limit)):
                return claims
            now = clock()
            claims = await self._read(limit, min(deadline, self._tend_at) - now)
            if claims or now >= deadline:
                return claims

    async def finish(self, results: Sequence[tuple[Claim, JobUpdate]]) -> None:
        """As in ports.JobQueue."""
        for _, update in results:
            self._notes.pop(update.job, None)
        await self._settle(
            [
                Change("finish", claim.job, claim.token, claim.deliveries, 0, _encode(update),
                       claim.spool)
                for claim, update in results
            ]
        )

    async def retry(self, claim: Claim, delay: float, update: JobUpdate) -> None:
        """As in ports.JobQueue; the deliveries so far are counted on."""
        self._notes.pop(update.job, None)
        delay_ms = max(0, int(delay * 1000))
        await self._settle(
            [Change("retry", claim.job, claim.token, claim.deliveries, delay_ms, _encode(update),
                    claim.spool)]
        )
        self._tend_at = min(self._tend_at, asyncio.get_running_loop().time() + delay)

    async def note(self, update: JobUpdate) -> None:
        """As in ports.JobQueue; leaves within NOTE_DELAY seconds."""
        if not self._notes:
            asyncio.get_running_loop().call_later(NOTE_DELAY, self._send_notes)
        self._notes[update.job] = update

    async def heartbeat(self, worker: str, seconds: float) -> None:
        """As in ports.JobQueue."""
        await self._change([Change("heartbeat", worker, delay=int(seconds * 1000))])

    async def hold(self, role: str, seconds: float) -> bool:
        """As in ports.JobQueue."""
        key, milliseconds = self._keys.role(role), int(seconds * 1000)
        _, holder = await self._ask(
            ("SET", key, self._consumer, "NX", "PX", milliseconds), ("GET", key))
        if holder is None or holder.decode(errors="replace") != self._consumer:
            return False
        await self._ask(("PEXPIRE", key, milliseconds))
        return True

    async def announce(self, spool: str, place: str) -> None:
        """As in ports.JobQueue."""
        await self._change([Change("announce", f"{spool} {place}")])

    async def spools(self) -> list[tuple[str, str]]:
        """As in ports.JobQueue."""
        (announced,) = await self._ask(("ZRANGE", self._keys.spools, 0, -1))
        texts = [member.decode(errors="replace").partition(" ") for member in announced]
        return [(spool, place) for spool, _, place in texts]

    # What an operator asks.

    async def workers(self) -> list[str]:
        """As in ports.JobQueue."""
        clock, alive = await self._ask(("TIME",), ("ZRANGE", self._keys.alive, 0, -1, "WITHSCORES"))
        now = int(clock[0]) * 1000
        return [name.decode(errors="replace") for name, end in alive if end > now]

    async def depth(self) -> QueueDepth:
        """As in ports.JobQueue."""
        keys = self._keys
        clock, entries, pending, delayed, first = await self._reads.call(
            ("TIME",),
            ("XLEN", keys.jobs),
            ("XPENDING", keys.jobs, GROUP),
            ("ZCARD", keys.delayed),
            ("XRANGE", keys.jobs, "-", "+", "COUNT", 1),
        )
        for reply in (clock, entries, delayed, first):
            _raise_refusal(reply)
        # Before the first claim there is no group to have claims.
        running = 0 if isinstance(pending, Exception) else int(pending[0])
        now = int(clock[0]) + int(clock[1]) / 1e6
        oldest = max(0.0, now - int(first[0][0].split(b"-")[0]) / 1000) if first else 0.0
        return QueueDepth(max(0, entries - running), running, delayed, oldest)

    async def ping(self) -> None:
        """As in ports.JobQueue. Writes: a replica, a full memory or a full disk must not pass."""
        await self._ask(("SET", self._keys.ping, "1", "PX", 60_000))

    async def close(self) -> None:
        """As in ports.JobQueue."""
        self._send_notes()
        if self._renewal is not None:
            self._renewal.cancel()
            await self._claims.close()
            with suppress(QueueUnavailable):
                await self._writes.evaluate(
                    LEAVE, [self._keys.jobs], [GROUP, self._consumer, int(self._lease * 1000)]
                )
        await self._changes.settle()
        for lane in (self._claims, self._writes, self._reads):
            await lane.close()
        for tail in self._tails:
            await tail.close()

    # Changes.

    async def _change(self, changes: Sequence[Change]) -> None:
        parts = [changes[start : start + BATCH] for start in range(0, len(changes), BATCH)]
        # All parts are waited for, so that none is left to fail unseen.
        outcomes = await asyncio.gather(*map(self._changes.submit, parts), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _settle(self, changes: Sequence[Change]) -> None:
        try:
            await self._change(changes)
        finally:
            # A claim whose end could not be told is no longer renewed, and so comes back.
            self._held.difference_update(change.token for change in changes)

    def _send_notes(self) -> None:
        notes, self._notes = self._notes, {}
        if notes:
            with suppress(QueueUnavailable):
                sent = self._changes.submit(
                    [Change("note", job, update=_encode(update)) for job, update in notes.items()]
                )
                sent.add_done_callback(lambda outcome: outcome.cancelled() or outcome.exception())

    async def _apply(self, changes: Sequence[Change]) -> Sequence[None]:
        keys = self._keys
        names = [keys.jobs, keys.delayed, keys.events, keys.results, keys.alive, keys.spools]
        arguments: list[Argument] = [GROUP, self._keep_ms, EVENTS_MAX, RESULTS_MAX,
                                     keys.job_prefix, SPOOLS_KEEP * 1000, SPOOLS_MAX]
        for change in changes:
            names.append(keys.job_prefix + change.job)
            arguments.extend(change)
        _raise_refusal(await self._writes.evaluate(APPLY, names, arguments))
        return [None] * len(changes)

    # Questions.

    async def _known(self, jobs: Sequence[str]) -> Sequence[JobUpdate | None]:
        (values,) = await self._ask(("MGET", *map(self._keys.job, jobs)))
        return [_update(value) for value in values]

    async def _ask(self, *commands: tuple[Argument, ...]) -> list[Any]:
        replies = await self._reads.call(*commands)
        for reply in replies:
            _raise_refusal(reply)
        return replies

    # Claims.

    async def _read(self, limit: int, block: float) -> list[Claim]:
        """New entries, waiting up to `block` seconds; none also when the group had to be made."""
        block_ms = int(block * 1000)
        # BLOCK 0 would mean for ever.
        blocking: tuple[Argument, ...] = ("BLOCK", block_ms) if block_ms > 0 else ()
        head = ("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", limit)
        (reply,) = await self._claims.call(
            (*head, *blocking, "STREAMS", self._keys.jobs, ">"), block=max(0.0, block)
        )
        if await self._joined(reply) or not reply:
            return []
        (entries,) = reply.values()
        return await self._hold((entry, fields, 1) for entry, fields in entries)

    async def _tend(self, limit: int) -> list[Claim]:
        """Queue what is due; take over up to `limit` claims whose lease ended."""
        lease: list[Argument] = [GROUP, self._consumer, int(self._lease * 1000)]
        reply = await self._claims.evaluate(
            TEND,
            [self._keys.jobs, self._keys.delayed],
            [*lease, limit, self._cursor, self._keep_ms, self._keys.job_prefix],
        )
        if await self._joined(reply):
            return []
        due_ms, cursor, entries = reply
        self._cursor = cursor.decode()
        pause = self._lease / 3 if self._cursor == "0-0" else 0.0
        if due_ms >= 0:
            pause = min(pause, due_ms / 1000)
        self._tend_at = asyncio.get_running_loop().time() + pause
        return await self._hold(entries)

    async def _joined(self, reply: Any) -> bool:
        """True if the reply says there is no group, or no longer: now there is one."""
        if not isinstance(reply, Exception):
            return False
        if "NOGROUP" not in str(reply) and "UNBLOCKED" not in str(reply):
            _raise_refusal(reply)
        arguments: list[Argument] = [GROUP, int(CONSUMER_OLD * 1000)]
        _raise_refusal(await self._claims.evaluate(JOIN, [self._keys.jobs], arguments))
        return True

    async def _hold(self, entries: Iterable[tuple[bytes, Any, int]]) -> list[Claim]:
        claims = []
        for entry, fields, deliveries in entries:
            token = entry.decode()
            if token in self._held:  # ours all the time: this process was too slow to renew it
                continue
            try:
                told = dict(zip(fields[::2], fields[1::2], strict=True))
                job, before = told[b"j"].decode(), int(told.get(b"n", 0))
                spool = told.get(b"s", b"").decode()
            except (ValueError, TypeError, KeyError):  # not from us; it would come back for ever
                await self._ask(
                    ("XACK", self._keys.jobs, GROUP, token), ("XDEL", self._keys.jobs, token)
                )
                continue
            self._held.add(token)
            claims.append(Claim(job, token, before + deliveries, spool))
        return claims

    async def _renew(self) -> None:
        """Keep the leases of all that is held, from a task of its own: jobs may take long."""
        while True:
            await asyncio.sleep(self._lease / 3)
            held = list(self._held)
            for start in range(0, len(held), BATCH):
                with suppress(QueueUnavailable):
                    part = held[start : start + BATCH]
                    await self._writes.call(
                        ("XCLAIM", self._keys.jobs, GROUP, self._consumer, 0, *part, "JUSTID")
                    )


def _raise_refusal(reply: Any) -> None:
    if isinstance(reply, Exception):
        raise QueueUnavailable(reason(reply))


def _update(value: bytes | None) -> JobUpdate | None:
    """What a job's key tells; None for nothing, or something that is not ours."""
    text = value or b""
    try:
        return _decode(text[text.find(b"{"):])
    except UNDECODABLE:
        return None
