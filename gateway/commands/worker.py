"""`zerostor worker`."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.commands.options import read_settings, settings_options


@click.command("worker", short_help="Run one worker process (`up` runs everything).")
@settings_options
def command(folder: Path | None, file: Path | None) -> None:
    """Run a process that stores accepted uploads, in the foreground, logging to stderr.

    Start as many as you like on the host that has the spool; the jobs of one that dies are taken
    over by the others.

    \b
    Example:
      zerostor worker --data /srv/zerostor
    """
    config = read_settings(folder, file)
    from gateway.commands.folder import make_folders
    from gateway.commands.mains import run_worker
    from gateway.commands.process import run_process

    make_folders(config.paths)
    run_process(run_worker(config))
