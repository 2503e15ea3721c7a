"""`zerostor promote`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.commands.asked import asked
from gateway.commands.options import json_option, print_json, read_settings, settings_options
from zerostor.core.errors import SetupError

if TYPE_CHECKING:
    from zerostor.config import Config
    from zerostor.core.replication import ReplicationState


@click.command("promote", short_help="Make this slave the master.")
@settings_options
@click.option("--force", is_flag=True,
              help="Even if the stores have more of the metadata than this slave.")
@json_option
def command(folder: Path | None, file: Path | None, force: bool, as_json: bool) -> None:
    """Make the slave with this DATA the master: its gateway takes uploads from then on.

    A master that can be reached stops writing first, and nothing is lost. One that cannot be
    reached may have taken uploads that were not copied here; when it comes back it sees that it was
    superseded, and refuses to write. Nothing has to be restarted.

    \b
    Example:
      zerostor promote --data /srv/zerostor
    """
    config = read_settings(folder, file)
    import asyncio

    before, after = asyncio.run(_promote(config, force))
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(after))
        return
    click.echo(f"this is the master now: epoch {after.epoch}, {after.records} records")
    if after.handed_over and before is not None:
        click.echo(f"its old master {before.master} has stopped writing; nothing is missing")
    elif before is not None and before.master:
        lacked = f"lacked {before.behind_entries} entries" if before.behind_entries else (
            "had everything")
        click.echo(f"its old master {before.master} cannot be reached, or told to stop: if it"
                   f" lives, stop it. It was heard last {before.behind_seconds:.1f} s ago, and this"
                   f" one {lacked} then; what it took later is not here")


async def _promote(
    config: Config, force: bool
) -> tuple[ReplicationState | None, ReplicationState]:
    async with asked(config) as (replication, before):
        if not force and before is not None and not before.connected:
            await _require_all(config)
        return before, await replication.promote()


async def _require_all(config: Config) -> None:
    """Of a master that is gone the pool may have more than a slave that was away as well."""
    from zerostor import wiring

    ahead = await wiring.pool_is_ahead(config)
    if ahead:
        raise SetupError(
            f"the stores have more of the metadata log than this slave: {ahead}. Promoted, it would"
            " lose what was stored since; `zerostor recover` brings it back into another --data."
            " --force promotes all the same")
