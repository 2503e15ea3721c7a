"""The guard: time limits, slots, retries and health, over a store that misbehaves on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.fakes.faulty_store import SCRIBBLE, FaultyStore
from zerostor.clock import SystemClock
from zerostor.core.errors import (
    Busy,
    ShardMissing,
    StoreFull,
    StoreReadOnly,
    StoreTimeout,
    StoreUnavailable,
)
from zerostor.core.health import StoreState
from zerostor.ports import ShardStore, WatchedStore
from zerostor.stores.guarded import GuardedStore
from zerostor.stores.health import DOWN_AFTER, HEDGE_MAX, HEDGE_MIN, Lane, Latency
from zerostor.stores.memory import MemoryStore

SHORT = 0.05
ENDLESS = 1000.0


def guard(inner: ShardStore, **options: Any) -> GuardedStore:
    return GuardedStore(inner, SystemClock(), **{"read_timeout": ENDLESS, **options})


def buffer(length: int = 3) -> memoryview:
    return memoryview(bytearray(length))


async def every_key(store: ShardStore) -> list[str]:
    return [key async for key in store.keys()]  # noqa: SIM118


@pytest.fixture
async def faulty() -> FaultyStore:
    inner = MemoryStore("m")
    await inner.put("k", [b"abc"])
    return FaultyStore(inner)


async def fails(call: Awaitable[object], kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        await call
    assert type(caught.value) is kind


def test_is_a_watched_store() -> None:
    watched: WatchedStore = guard(MemoryStore("m"))
    assert watched.name == "m"
    assert watched.state is StoreState.UP
    assert watched.reason == ""


async def test_a_read_that_hangs_ends_in_time_and_takes_the_store_down(faulty: FaultyStore) -> None:
    store = guard(faulty, read_timeout=SHORT)
    faulty.faults.hang = 1.0
    await fails(store.read("k", 0, buffer()), StoreTimeout)
    assert store.read_state is StoreState.DOWN
    assert store.state is StoreState.DOWN
    assert "did not answer" in store.reason
    assert faulty.hanging == 0
    before = faulty.calls["read"]
    await fails(store.read("k", 0, buffer()), StoreUnavailable)
    assert faulty.calls["read"] == before, "a store that is down is not asked"


async def test_a_slow_device_has_longer_for_more_bytes(faulty: FaultyStore) -> None:
    faulty.faults.slow, faulty.faults.slow_seconds = 1.0, 6 * SHORT
    await fails(guard(faulty, write_timeout=SHORT).put("x", [bytes(1000)]), StoreTimeout)
    faulty.pace = 1000.0  # type: ignore[attr-defined]
    store = guard(faulty, write_timeout=SHORT, read_timeout=SHORT)
    await store.put("x", [bytes(1000)])
    await store.read("x", 0, buffer(1000))
    await fails(store.put("x", [b""]), StoreTimeout)
    assert store.patience(2000) == 2.0
    assert guard(MemoryStore("m")).patience(2000) == 0.0


def test_one_slow_call_among_good_ones_is_a_failure_and_no_more() -> None:
    lane = Lane("read", 10.0, 4)
    lane.answered(5.0)
    lane.timed_out(3.0, "slow")
    assert lane.state(13.0) is StoreState.SUSPECT
    lane.answered(14.0)
    assert lane.state(14.0) is StoreState.UP
    lane.timed_out(15.0, "hung")
    assert lane.state(25.0) is StoreState.DOWN


def test_a_call_that_takes_long_makes_it_suspect_before_the_limit() -> None:
    lane = Lane("read", 10.0, 4)
    first = lane.begin(100.0)
    lane.begin(102.5)
    assert lane.state(100.9) is StoreState.UP
    assert lane.state(101.1) is StoreState.SUSPECT
    lane.end(first)
    assert lane.state(103.0) is StoreState.UP
    assert lane.state(104.0) is StoreState.SUSPECT


async def test_failures_in_a_row_take_it_down_and_probes_bring_it_back(faulty: FaultyStore) -> None:
    store = guard(faulty, retries=0)
    faulty.faults.error = 1.0
    for n in range(DOWN_AFTER):
        assert store.state == (StoreState.SUSPECT if n else StoreState.UP)
        await fails(store.put("x", [b""]), StoreUnavailable)
    assert (store.read_state, store.write_state) == (StoreState.UP, StoreState.DOWN)
    assert "planned for put" in store.reason
    assert await store.check() is StoreState.DOWN
    assert store.read_state is StoreState.DOWN, "a probe is about both"
    faulty.faults.error = 0.0
    await fails(store.put("x", [b""]), StoreUnavailable)
    on_parole = await store.check()
    assert on_parole is StoreState.SUSPECT
    faulty.faults.error = 1.0
    await fails(store.put("x", [b""]), StoreUnavailable)
    assert store.write_state is StoreState.DOWN, "on parole, one failure is enough"
    faulty.faults.error = 0.0
    assert [await store.check(), await store.check()] == [StoreState.SUSPECT, StoreState.UP]
    await store.put("x", [b""])


async def test_a_success_forgives(faulty: FaultyStore) -> None:
    store = guard(faulty, retries=0)
    for _ in range(DOWN_AFTER * 3):
        faulty.faults.error = 1.0
        await fails(store.read("k", 0, buffer()), StoreUnavailable)
        faulty.faults.error = 0.0
        await store.read("k", 0, buffer())
    assert store.state is StoreState.UP


async def test_answers_are_no_failures() -> None:
    store = guard(MemoryStore("m", capacity=2))
    for _ in range(DOWN_AFTER + 1):
        await fails(store.read("k", 0, buffer()), ShardMissing)
        await fails(store.put("k", [b"abc"]), StoreFull)
    assert store.state is StoreState.UP


async def test_busy_is_ours_and_no_failure(faulty: FaultyStore) -> None:
    store = guard(_Raising(Busy("no descriptors")))
    for _ in range(DOWN_AFTER + 1):
        await fails(store.read("k", 0, buffer()), Busy)
    assert store.state is StoreState.UP


async def test_reads_are_tried_again_once(faulty: FaultyStore) -> None:
    store = guard(faulty)
    faulty.faults.error = 1.0
    await fails(store.read("k", 0, buffer()), StoreUnavailable)
    assert faulty.calls["read"] == 2
    assert store.state is StoreState.SUSPECT
    await fails(store.put("k", [b"x"]), StoreUnavailable)
    assert faulty.calls["put"] == 1, "a write is for the caller to place elsewhere"


async def test_a_read_that_timed_out_inside_is_not_tried_again() -> None:
    slow = _Raising(StoreTimeout("no answer"))
    await fails(guard(slow).read("k", 0, buffer()), StoreTimeout)
    assert slow.asked == 1


async def test_an_error_that_passes_is_not_seen() -> None:
    flaky = _FailsOnce("m")
    await flaky.put("k", [b"abc"])
    into = buffer()
    store = guard(flaky)
    await store.read("k", 0, into)
    assert bytes(into) == b"abc"
    assert store.state is StoreState.UP


async def test_read_only_is_down_for_writes_alone() -> None:
    store = guard(_ReadOnly("m"))
    assert await store.check() is StoreState.DOWN
    assert store.read_state is StoreState.UP
    assert store.write_state is StoreState.DOWN
    await fails(store.read("k", 0, buffer()), ShardMissing)


async def test_a_probe_that_hangs(faulty: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerostor.stores.guarded.CHECK_TIMEOUT", SHORT)
    store = guard(faulty)
    faulty.faults.hang = 1.0
    assert await store.check() is StoreState.DOWN
    await fails(store.probe(), StoreUnavailable)


@pytest.mark.parametrize(
    ("limit", "call"),
    [
        ("concurrent_reads", lambda store: store.read("k", 0, buffer())),
        ("concurrent_writes", lambda store: store.put("x", [b"x"])),
    ],
)
async def test_slots(
    faulty: FaultyStore, limit: str, call: Callable[[GuardedStore], Awaitable[None]]
) -> None:
    store = guard(faulty, write_timeout=ENDLESS, **{limit: 3})
    faulty.faults.hang = 1.0
    calls = [asyncio.ensure_future(call(store)) for _ in range(10)]
    await asyncio.sleep(SHORT)
    assert faulty.hanging == 3
    faulty.faults.hang = 0.0
    faulty.release()
    await asyncio.gather(*calls)


async def test_those_who_wait_for_a_slot_fail_with_the_store(faulty: FaultyStore) -> None:
    store = guard(faulty, read_timeout=0.2, concurrent_reads=2)
    faulty.faults.hang = 1.0
    calls = [asyncio.ensure_future(store.read("k", 0, buffer())) for _ in range(2)]
    await asyncio.sleep(0.1)
    calls += [asyncio.ensure_future(store.read("k", 0, buffer())) for _ in range(6)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert faulty.calls["read"] == 2, "the others were not sent to a store known to hang"


async def test_a_cancelled_call_gives_its_slot_back(faulty: FaultyStore) -> None:
    store = guard(faulty, concurrent_reads=1)
    faulty.faults.hang = 1.0
    for _ in range(5):
        task = asyncio.ensure_future(store.read("k", 0, buffer()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    faulty.faults.hang = 0.0
    await store.read("k", 0, buffer())
    assert store.state is StoreState.UP


async def test_the_buffer_of_a_read_given_up_is_lost(faulty: FaultyStore) -> None:
    """Not a wish: it is what a thread of a real disk may do, and engines must be ready for it."""
    store = guard(faulty, read_timeout=SHORT)
    faulty.faults.hang = 1.0
    into = buffer()
    await fails(store.read("k", 0, into), StoreTimeout)
    await asyncio.sleep(0)
    assert bytes(into) == bytes([SCRIBBLE]) * 3


async def test_a_writer_is_guarded_call_by_call(faulty: FaultyStore) -> None:
    store = guard(faulty, write_timeout=SHORT)
    writer = await store.create("w", 3)
    await writer.write(b"abc")
    faulty.faults.hang = 1.0
    await fails(writer.commit(), StoreTimeout)
    assert store.write_state is StoreState.DOWN
    await fails(writer.write(b"abc"), StoreUnavailable)
    await writer.abort()
    assert faulty.calls["abort"] == 1
    assert await every_key(faulty.inner) == ["k"]


async def test_abort_never_raises_and_never_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerostor.stores.guarded.CHECK_TIMEOUT", SHORT)
    store = guard(_HangsInAbort("m"))
    await (await store.create("w", None)).abort()


async def test_a_listing_that_stops_short_times_out(faulty: FaultyStore) -> None:
    store = guard(faulty, read_timeout=SHORT)
    assert await every_key(store) == ["k"]
    faulty.faults.hang = 1.0
    with pytest.raises(StoreTimeout, match="listing"):
        await every_key(store)


async def test_reads_from_memory_do_not_pass_through_the_slots() -> None:
    inner = _Quick("m")
    store = guard(inner, concurrent_reads=1)
    into = buffer()
    reading = store.read("k", 0, into)
    with pytest.raises(StopIteration):
        reading.send(None)  # it ended without having waited for anything
    assert bytes(into) == b"now"
    inner.away = True
    await fails(store.read("k", 0, into), ShardMissing)


def test_the_hedge_follows_the_completed_reads() -> None:
    latency = Latency()
    unknown = latency.hedge()
    assert HEDGE_MIN < unknown < HEDGE_MAX
    for _ in range(100):
        latency.add(0.010, completed=True)
    assert latency.hedge() == pytest.approx(0.040)
    for _ in range(100):
        latency.add(9.0, completed=False)
    assert latency.hedge() == pytest.approx(0.040), "those given up must not raise it"
    assert latency.average > 1.0, "and do lower the rank"
    for _ in range(100):
        latency.add(0.0001, completed=True)
    assert latency.hedge() == HEDGE_MIN
    for _ in range(100):
        latency.add(3.0, completed=True)
    assert latency.hedge() == HEDGE_MAX


async def test_small_and_large_reads_are_timed_apart(faulty: FaultyStore) -> None:
    store = guard(faulty)
    await store.read("k", 0, buffer())
    assert store.latency(3) > 0.0
    assert store.latency() == 0.0
    assert store.hedge_after(3) == HEDGE_MIN
    assert store.hedge_after() > HEDGE_MIN


class _Raising(MemoryStore):
    def __init__(self, error: Exception) -> None:
        super().__init__("m")
        self._error = error
        self.asked = 0

    async def read(self, key: str, offset: int, into: memoryview) -> None:
        self.asked += 1
        raise self._error


class _FailsOnce(MemoryStore):
    failed = False

    async def read(self, key: str, offset: int, into: memoryview) -> None:
        if not self.failed:
            self.failed = True
            raise StoreUnavailable("connection reset")
        await super().read(key, offset, into)


class _ReadOnly(MemoryStore):
    async def probe(self) -> None:
        raise StoreReadOnly("read-only file system")


class _HangsInAbort(MemoryStore):
    async def create(self, key: str, size: int | None) -> Any:
        writer = await super().create(key, size)
        writer.abort = asyncio.Event().wait  # type: ignore[method-assign, assignment]
        return writer


class _Quick(MemoryStore):
    away = False

    def read_now(self, key: str, offset: int, into: memoryview) -> bool:
        if not self.away:
            into[:] = b"now"
        return not self.away
