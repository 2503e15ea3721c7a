"""`zerostor compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.commands.asked import asked
from gateway.commands.options import json_option, print_json, read_settings, settings_options
from zerostor.core.errors import LogCorrupt

if TYPE_CHECKING:
    from zerostor.config import Config
    from zerostor.core.replication import Comparison


@click.command("compare", short_help="Hold a slave's metadata against its master's.")
@settings_options
@json_option
def command(folder: Path | None, file: Path | None, as_json: bool) -> None:
    """Compare the metadata of the slave with this DATA with its master's, byte for byte.

    Where `metadata.url` names several servers, every slave among them.

    Both read their logs and tell checksums; what the slave does not have yet is no difference. A
    slave does the same every ten minutes by itself: `zerostor stores` and /readyz tell how it went.

    \b
    Example:
      zerostor compare --data /srv/zerostor
    """
    config = read_settings(folder, file)
    import asyncio

    results = asyncio.run(_compare(config))
    several = len(config.metadata.url) > 1
    if as_json:
        import msgspec

        plain = msgspec.to_builtins(results)
        print_json(plain if several else next(iter(plain.values())))
    for url, found in results.items():
        where = f"{url}: " if several else ""
        if not as_json:
            click.echo(f"{where}last id {found.last_id}, {found.records} records, {found.files}"
                       f" files, checksum {found.digest[:32]}")
        if found.differs:
            raise LogCorrupt(f"{where}master and slave differ: {found.differs}")
    if not as_json:
        click.echo("master and slave are the same")


async def _compare(config: Config) -> dict[str, Comparison]:
    """Of each slave, by its URL."""
    async with asked(config) as servers:
        slaves = [server for server in servers if server.is_slave] or servers[:1]
        return {server.url: await server.replication.compare() for server in slaves}
