"""`zerostor worker`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.commands.options import read_settings, settings_options

if TYPE_CHECKING:
    from zerostor.config import Config


@click.command("worker", short_help="Run one worker process (`up` runs everything).")
@settings_options
def command(folder: Path | None, file: Path | None) -> None:
    """Run a process that stores accepted uploads, in the foreground, logging to stderr.

    Start as many as you like; the jobs of one that dies are taken over by the others. On hosts
    without a gateway they need cluster.secret_file, to fetch what the gateways took.

    \b
    Example:
      zerostor worker --data /srv/zerostor
    """
    config = read_settings(folder, file)
    from gateway.commands.folder import make_folders
    from gateway.commands.process import run_process

    make_folders(config.paths)
    run_process(work(config))


async def work(config: Config) -> None:
    """Work on jobs until cancelled."""
    from gateway.commands.cluster import links
    from gateway.commands.process import unique_name
    from workers.runner import Runner
    from zerostor import wiring

    name = unique_name("worker")
    async with links(config) as link, wiring.build(config, name, link) as parts:
        await Runner(name, parts.queue, parts.board, parts.spools, parts.ingest, parts.events,
                     parts.clock, config.worker.concurrency).run()
