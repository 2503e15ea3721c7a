"""What was removed, and packs that were written again, when the metadata is made again."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.sweeping import QUIET, Sweeping
from tests.integration.test_recover_log import Site
from zerostor.core.errors import ObjectRemoved
from zerostor.core.link import parse_link
from zerostor.engine.removal import Asker


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    await made.archive.start()
    yield made
    await made.archive.close()
    await made.archive.grid.close()


def sweeping(site: Site) -> Sweeping:
    return Sweeping(site.archive.grid)


async def small(site: Site, count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    bodies = [rng.randbytes(3000 + number) for number in range(count)]
    links = await sweeping(site).pack(bodies)
    site.bodies.update(zip(links, bodies, strict=True))
    return links


async def test_what_the_log_knows_as_removed_stays_removed(site: Site) -> None:
    await site.store(6)
    links = list(site.bodies)
    here = sweeping(site)
    gone, held, back = links[:4], links[4], links[5]
    await here.remove(*gone, back)
    await here.removal.quarantine(parse_link(held)[0], Asker(""))
    await here.restore(back)
    reclaimed, = gone[:1]
    await keep_log(site)
    bodies = {link: site.bodies.pop(link) for link in (*gone, held)}
    await site.store(3)
    await site.lose()
    summary = await site.recover(verify=True)
    assert summary.complete, (summary.missing.first, summary.broken.first)
    async with site.served():
        for link in (*gone, held):
            assert await here.is_gone(link)
        await here.restore(gone[1])
        assert await site.archive.grid.read(gone[1]) == bodies[gone[1]]
        await here.removal.release(parse_link(held)[0], Asker(""))
        assert await site.archive.grid.read(held) == bodies[held]
        await here.sweep(30 * QUIET)
        assert await here.state(reclaimed) == "reclaimed"
        with pytest.raises(ObjectRemoved):
            await here.restore(reclaimed)


async def written_again(site: Site, log: str, deleted: bool) -> tuple[Sweeping, list[str]]:
    """A pack of which most is removed, and another one; links of what was removed."""
    links = await small(site, 8, 1)
    await site.archive.grid.writer.close()
    await small(site, 3, 2)
    here = sweeping(site)
    if log == "before it":
        await keep_log(site)
    await here.remove(*links[:6])
    await here.sweep(13 * QUIET)
    assert await here.dead_packs() == 1
    if deleted:
        assert (await here.sweep(QUIET)).volumes == 1
    if log == "behind it":
        await keep_log(site)
    for link in links[:6]:
        del site.bodies[link]
    await here.writer.close()
    return here, links[:6]


async def keep_log(site: Site) -> None:
    for _ in range(2):
        await site.archivist.look(now=True)


@pytest.mark.parametrize(("log", "deleted"), [
    ("before it", True), ("before it", False), ("none", True), ("none", False),
    ("behind it", True)])
async def test_a_pack_that_was_written_again(site: Site, log: str, deleted: bool) -> None:
    """log: when it was kept in the pool. deleted: whether the first pack is off the stores."""
    here, gone = await written_again(site, log, deleted)
    await site.lose()
    summary = await site.recover()
    if log == "behind it" or not deleted:
        assert summary.missing.count == 0, summary.missing.first
    async with site.served():
        if log == "behind it":
            assert {await here.state(link) for link in gone} == {"reclaimed"}
        await here.whole()
        await here.settle()
        await here.whole()
        for link, body in site.bodies.items():
            assert await site.archive.grid.read(link) == body
        if log == "none" and not deleted:
            # Nobody knows any more that they were removed.
            assert {await here.state(link) for link in gone} == {"stored"}
