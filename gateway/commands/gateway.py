"""`zerostor gateway`."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.commands.options import listen_option, read_settings, settings_options


@click.command("gateway", short_help="Run one gateway process (`up` runs everything).")
@settings_options
@listen_option
def command(folder: Path | None, file: Path | None, listen: str | None) -> None:
    """Run the HTTP process in the foreground, logging to stderr.

    It needs the metadata server, and shares DATA with the workers; Redis may come and go.

    \b
    Example:
      zerostor gateway --data /srv/zerostor --listen 0.0.0.0:8080
    """
    config = read_settings(folder, file, listen)
    from gateway.commands.folder import make_folders
    from gateway.commands.mains import run_gateway
    from gateway.commands.process import run_process

    make_folders(config.paths)
    run_process(run_gateway(config))
