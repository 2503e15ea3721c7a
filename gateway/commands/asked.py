"""The metadata servers of the settings, asked by `promote` and `compare`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

from zerostor.core.errors import MetadataUnavailable, SetupError, ZerostorError

if TYPE_CHECKING:
    from zerostor.config import Config
    from zerostor.core.replication import ReplicationState
    from zerostor.log_ports import Replication


class Asked(NamedTuple):
    """One of them. state: None of one that does not answer, then `problem` says why, and of a 0-db
    that is not ours.
    """

    url: str
    replication: Replication
    state: ReplicationState | None
    problem: str = ""

    @property
    def is_slave(self) -> bool:
        """Whether it answers, and follows another."""
        return self.state is not None and self.state.role.value == "slave"

    def __str__(self) -> str:
        """For a person who chooses one."""
        state = self.state
        if state is None:
            return f"{self.url}: {self.problem or 'a 0-db that is not ours'}"
        what = f"epoch {state.epoch}, next id {state.next_id}, {state.records} records"
        if state.writable:
            return f"{self.url}: the master, {what}"
        if not self.is_slave:
            return f"{self.url}: a master that was superseded, {what}"
        heard = "" if state.connected else f", cut off from it for {state.behind_seconds:.0f} s"
        return f"{self.url}: a slave of {state.master}{heard}, {what}"


@contextlib.asynccontextmanager
async def asked(config: Config) -> AsyncIterator[list[Asked]]:
    """Each, and what it says of itself now. Raises SetupError if none answers."""
    import asyncio

    from zerostor.metadata_wiring import metadata_urls, replication_at

    urls = metadata_urls(config)
    several = len(urls) > 1
    replications = {url: replication_at(config, url, quick=several) for url in urls}
    try:
        found = await asyncio.gather(*(_ask(*each) for each in replications.items()))
        if all(one.problem for one in found):
            said = "; ".join(str(one) if several else one.problem for one in found)
            where = (f"in {config.paths.root}: start it there, or name its folder with --data DIR"
                     if config.metadata.embedded
                     else f"at {config.metadata.places}: see metadata.url")
            raise SetupError(f"no metadata server answers {where} ({said})")
        yield found
    finally:
        for replication in replications.values():
            await replication.close()


async def _ask(url: str, replication: Replication) -> Asked:
    try:
        return Asked(url, replication, await replication.state())
    except (MetadataUnavailable, SetupError) as error:
        return Asked(url, replication, None, _said(error))


def _said(error: ZerostorError) -> str:
    return str(error) or type(error).__name__
