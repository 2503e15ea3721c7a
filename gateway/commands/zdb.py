"""`zerostor zdb`."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.commands.options import read_settings, settings_options


@click.command("zdb", short_help="Run the embedded metadata server (`up` runs everything).")
@settings_options
def command(folder: Path | None, file: Path | None) -> None:
    """Run the metadata server in the foreground: 0-db's protocol on a socket below DATA.

    \b
    Example:
      zerostor zdb --data /srv/zerostor
    """
    config = read_settings(folder, file)
    from gateway.commands.folder import make_folders
    from gateway.commands.process import run_process
    from zerostor.zdb.server import ServerSettings, serve

    make_folders(config.paths)
    settings = ServerSettings(config.paths.metadata, unix=config.paths.zdb_socket)
    run_process(serve(settings))
