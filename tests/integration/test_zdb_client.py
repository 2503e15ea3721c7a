"""The metadata client against a server, with a proxy between them that cuts connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.cutting_proxy import Cut, CuttingProxy
from tests.fakes.zdb_servers import real_zdb
from zerostor.core.errors import MetadataUnavailable, SetupError, TooLarge
from zerostor.core.limits import RECORD_MAX
from zerostor.metadata.zdb import ZdbMetadata
from zerostor.resp_client import Address
from zerostor.zdb.server import ServerSettings, ZdbServer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ZdbServer]:
    made = ZdbServer(ServerSettings(tmp_path / "log", host="127.0.0.1", port=0))
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def proxy(server: ZdbServer) -> AsyncIterator[CuttingProxy]:
    assert server.port is not None
    async with proxy_to(Address(port=server.port)) as made:
        yield made


@contextlib.asynccontextmanager
async def proxy_to(where: Address) -> AsyncIterator[CuttingProxy]:
    made = CuttingProxy(where)
    made.address = await made.start()
    yield made
    await made.close()


@pytest.fixture(params=["pipelined", "one in flight", "real 0-db"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, proxy: CuttingProxy
) -> AsyncIterator[ZdbMetadata]:
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "real 0-db":
            where = await stack.enter_async_context(real_zdb(tmp_path, "--mode", "seq"))
            proxy = await stack.enter_async_context(proxy_to(where))
        made = ZdbMetadata(proxy.address, pipeline=request.param == "pipelined")
        stack.push_async_callback(made.close)
        made.proxy = proxy
        await made.reserve([b"an early note", b"another"])
        yield made


async def rows_of(store: ZdbMetadata) -> dict[int, bytes]:
    return {key: value async for key, value in store.scan()}


@pytest.mark.parametrize("cut", [Cut.AFTER, Cut.HALF_REPLY])
async def test_a_reservation_whose_answer_is_lost_is_found_again(
    store: ZdbMetadata, cut: Cut
) -> None:
    proxy = store.proxy
    proxy.cut, proxy.trigger = cut, b"the lost one"
    notes = [b"first -------", b"the lost one", b"third -------"]
    ids = await store.reserve(notes)
    assert [await store.get(key) for key in ids] == notes
    assert sorted((await rows_of(store)).values()) == sorted([b"an early note", b"another", *notes])
    assert proxy.cut is Cut.NONE, "nothing was cut"


async def test_two_workers_who_lose_answers_at_once_find_their_own(
    server: ZdbServer, proxy: CuttingProxy
) -> None:
    direct = ZdbMetadata(Address(port=server.port or 0))
    stores = [ZdbMetadata(proxy.address) for _ in range(2)]
    given: dict[int, bytes] = {}
    for turn in range(10):
        proxy.cut, proxy.trigger = Cut.AFTER, b"note"
        notes = [[b"note %d of %d, turn %02d" % (n, worker, turn) for n in range(20)]
                 for worker in range(3)]
        found = await asyncio.gather(*(each.reserve(own) for each, own
                                       in zip([*stores, direct], notes, strict=True)))
        for ids, own in zip(found, notes, strict=True):
            given.update(zip(ids, own, strict=True))
    assert len(given) == 600
    assert await rows_of(direct) == given
    for store in (*stores, direct):
        await store.close()


@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.HALF_REQUEST])
async def test_a_reservation_that_never_arrived_is_said_and_not_sent_again(
    store: ZdbMetadata, cut: Cut
) -> None:
    proxy = store.proxy
    proxy.cut, proxy.trigger = cut, b"the lost one"
    with pytest.raises(MetadataUnavailable, match="1 of 1 cannot be found"):
        await store.reserve([b"the lost one"])
    assert len(await rows_of(store)) == 2
    assert proxy.seen.count(b"the lost one") == 1
    (key,) = await store.reserve([b"the next one"])
    assert await store.get(key) == b"the next one"


@pytest.mark.parametrize("cut", [cut for cut in Cut if cut is not Cut.NONE])
async def test_what_may_run_twice_is_sent_again(
    store: ZdbMetadata, cut: Cut
) -> None:
    proxy = store.proxy
    (key,) = await store.reserve([b"note"])
    for trigger, call in (
        (b"record", store.commit([(key, b"record")])), (b"GET", store.get(key)),
        (b"DEL", store.delete([key])),
    ):
        proxy.cut, proxy.trigger = cut, trigger
        result = await call
        assert proxy.cut is Cut.NONE, f"{trigger!r} was not cut"
        assert result == (b"record" if trigger == b"GET" else None)
    assert await store.get(key) is None


async def test_a_server_that_is_ours_gets_one_connection_and_batches(proxy: CuttingProxy) -> None:
    store = ZdbMetadata(proxy.address)
    ids = await store.reserve([b"note %d" % n for n in range(1000)])
    await asyncio.gather(*(store.get(key) for key in ids))
    assert proxy.connections == 1
    await store.close()


async def test_a_server_that_is_not_gets_one_request_at_a_time(
    server: ZdbServer, proxy: CuttingProxy
) -> None:
    facts = server._facts()
    foreign = {**facts, "server": {**facts["server"], "server_name": "0-db (zdb)"}}
    server.shared = server.shared._replace(facts=lambda: foreign)
    store = ZdbMetadata(proxy.address)
    ids = await store.reserve([b"note %d" % n for n in range(100)])
    assert proxy.connections == 4
    assert [await store.get(key) for key in ids] == [b"note %d" % n for n in range(100)]
    await store.close()


async def test_a_record_larger_than_a_server_takes_is_refused_here(store: ZdbMetadata) -> None:
    (key,) = await store.reserve([b"note"])
    with pytest.raises(TooLarge, match="8388609"):
        await store.commit([(key, bytes(RECORD_MAX + 1))])
    await store.commit([(key, bytes(RECORD_MAX))])


async def test_a_namespace_that_is_not_there(proxy: CuttingProxy) -> None:
    store = ZdbMetadata(proxy.address, namespace="elsewhere")
    with pytest.raises(SetupError, match=r"elsewhere.*NSNEW"):
        await store.ping()
    await store.close()
