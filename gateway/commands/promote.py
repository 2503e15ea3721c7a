"""`zerostor promote`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.commands.asked import Asked, asked
from gateway.commands.options import json_option, print_json, read_settings, settings_options
from zerostor.core.errors import BadRequest, SetupError

if TYPE_CHECKING:
    from zerostor.config import Config
    from zerostor.core.replication import ReplicationState


@click.command("promote", short_help="Make a slave the master.")
@click.argument("url", required=False, metavar="[URL]")
@settings_options
@click.option("--force", is_flag=True,
              help="Even if the stores have more of the metadata than this slave.")
@json_option
def command(url: str | None, folder: Path | None, file: Path | None, force: bool,
            as_json: bool) -> None:
    """Make the slave with this DATA the master: its gateway takes uploads from then on.

    Where `metadata.url` names several servers all are asked, and of the slaves the one that has
    most is taken; or the one at URL. Works from any host that has the settings.

    A master that can be reached stops writing first, and nothing is lost. One that cannot be
    reached may have taken uploads that were not copied here; when it comes back it sees that it was
    superseded, and refuses to write. Nothing has to be restarted.

    \b
    Examples:
      zerostor promote --data /srv/zerostor
      zerostor promote --config cluster.toml
      zerostor promote zdb://10.0.0.6:9900 --config cluster.toml
    """
    config = read_settings(folder, file)
    import asyncio

    chosen, after = asyncio.run(_promote(config, url, force, not as_json))
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(after))
        return
    before, which = chosen.state, "this"
    if len(config.metadata.url) > 1:
        which = chosen.url
    click.echo(f"{which} is the master now: epoch {after.epoch}, {after.records} records")
    if after.handed_over and before is not None:
        click.echo(f"its old master {before.master} has stopped writing; nothing is missing")
    elif before is not None and before.master:
        lacked = f"lacked {before.behind_entries} entries" if before.behind_entries else (
            "had everything")
        click.echo(f"its old master {before.master} cannot be reached, or told to stop: if it"
                   f" lives, stop it. It was heard last {before.behind_seconds:.1f} s ago, and this"
                   f" one {lacked} then; what it took later is not here")


async def _promote(
    config: Config, url: str | None, force: bool, tell: bool
) -> tuple[Asked, ReplicationState]:
    async with asked(config) as servers:
        if tell and len(servers) > 1:
            for server in servers:
                click.echo(str(server))
        chosen = _chosen(servers, url)
        if not force and chosen.state is not None and not chosen.state.connected:
            await _require_all(config, chosen.url, chosen.state)
        return chosen, await chosen.replication.promote()


def _chosen(servers: list[Asked], url: str | None) -> Asked:
    """The one at `url`, else the slave that is ahead of all others. Raises SetupError."""
    if url is not None:
        found = next((server for server in servers if server.url == url), None)
        if found is None:
            raise BadRequest(f"the settings name no metadata server {url}: they have"
                             f" {', '.join(server.url for server in servers)}")
        if found.problem:
            raise SetupError(str(found))
        return found
    if len(servers) == 1:
        return servers[0]
    slaves = [(server.state.reign, server.state.file, server.state.offset, server)
              for server in servers if server.state is not None and server.is_slave]
    if not slaves:
        raise SetupError("none of them is a slave that answers: start one with --slave-of, or name"
                         " the one to promote")
    return max(slaves, key=lambda row: row[:3])[3]


async def _require_all(config: Config, url: str, before: ReplicationState) -> None:
    """Of a master that is gone the pool may have more than a slave that was away as well."""
    from zerostor import wiring

    if before.superseded > before.epoch:
        raise SetupError(f"another server was promoted since (epoch {before.superseded}), and what"
                         " it took is not here: let this one follow it, with --slave-of. --force"
                         " promotes all the same")
    ahead = await wiring.pool_is_ahead(config, url)
    if ahead:
        raise SetupError(
            f"the stores have more of the metadata log than this slave: {ahead}. Promoted, it would"
            " lose what was stored since; `zerostor recover` brings it back into another --data."
            " --force promotes all the same")
