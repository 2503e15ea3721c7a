"""Token buckets in a real Redis and Valkey."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.redis_server import BINARIES, running
from zerostor.core.errors import QueueUnavailable
from zerostor.queue.redis_buckets import RedisBuckets


@pytest.mark.parametrize("binary", BINARIES)
async def test_two_gateways_take_from_one_bucket(binary):
    with running(binary) as server:
        one, two = RedisBuckets(server.url), RedisBuckets(server.url)
        # 600 a minute: while this runs one comes back each tenth of a second.
        counts = await asyncio.gather(*(
            buckets.take("upload:203.0.113.5", 600, 25) for buckets in (one, two) * 12))
        assert {count for count, _ in counts} == {25}, "24 lots of 25 are all there is"
        left, wait = await one.take("upload:203.0.113.5", 600, 600)
        assert left < 300
        if not left:
            assert 0 < wait <= 0.1
        assert (await two.take("upload:203.0.113.6", 600, 7))[0] == 7
        count, wait = await one.take("few", 1, 5)
        assert (count, 59 < wait <= 60) == (1, True)
        count, wait = await two.take("few", 1, 5)
        assert (count, 1 < wait <= 60) == (0, True)
        await asyncio.gather(one.close(), two.close())


async def test_a_redis_that_is_away_or_hangs_is_given_up_soon():
    with running("valkey") as server:
        buckets = RedisBuckets(server.url)
        assert (await buckets.take("a", 60, 1))[0] == 1
        server.kill()
        async with asyncio.timeout(30):
            with pytest.raises(QueueUnavailable):
                await buckets.take("a", 60, 1)
        server.start()
        assert (await buckets.take("a", 60, 1))[0] == 1
        await buckets.close()
