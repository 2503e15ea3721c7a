"""`zerostor redis`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from gateway.commands.options import read_settings, settings_options


@click.command("redis", short_help="Run the embedded Redis server (`up` runs everything).")
@settings_options
def command(folder: Path | None, file: Path | None) -> None:
    """Become the Redis-compatible server that zerostor brings along, on a socket below DATA.

    \b
    Example:
      zerostor redis --data /srv/zerostor
    """
    config = read_settings(folder, file)
    from gateway.commands.folder import make_folders, require_silence
    from zerostor.embedded_redis import find_server, server_command

    make_folders(config.paths)
    require_silence(config.paths.redis_socket)
    server, socket = find_server(), str(config.paths.redis_socket)
    arguments = server_command(server, str(config.paths.redis), socket)
    # Its log goes where ours goes: to the terminal, or the file that the supervisor bounds.
    os.execv(server, [*arguments, "--logfile", ""])  # noqa: S606
