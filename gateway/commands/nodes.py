"""`zerostor nodes`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.commands.options import check_address, read_settings, settings_options

if TYPE_CHECKING:
    from zerostor.config import Config

KEPT_BYTES = 8 * 1024 * 1024
"""Freed memory that is kept."""


@click.command("nodes", short_help="Run the node hub, where ESP32 nodes dial in.")
@settings_options
@click.option(
    "--listen", metavar="HOST:PORT", callback=check_address,
    help="Where nodes dial in.  [default: nodes.listen, 127.0.0.1:7777]",
)
def command(folder: Path | None, file: Path | None, listen: str | None) -> None:
    """Run the node hub in the foreground, logging to stderr. `up` runs it where nodes.enabled is
    set.

    Nodes are ESP32s with the firmware of this project; `zerostor node add` makes the key of one.
    They dial in, so they may stand behind any router; the hub has to be reachable from there.

    \b
    Example:
      zerostor nodes --data /srv/zerostor --listen 0.0.0.0:7777
      zerostor node add shed-1 --owner anna --site garden
      zerostor node emulate --count 5
    """
    import msgspec

    from gateway.commands.folder import free_address, make_folders
    from gateway.commands.process import run_process
    from zerostor.core.units import parse_address

    config = read_settings(folder, file)
    make_folders(config.paths)
    wanted = config.nodes.listen if listen is None else parse_address(listen)
    nodes = msgspec.structs.replace(config.nodes, listen=free_address(wanted))
    config = msgspec.structs.replace(config, nodes=nodes)
    run_process(serve(config), KEPT_BYTES)


async def serve(config: Config) -> None:
    """Serve nodes, and what the gateway asks about them, until cancelled."""
    from gateway.commands.process import first_of
    from workers.console import Console
    from workers.hub_control import HubControl, HubFacts, application
    from workers.telemetry_control import TelemetryControl
    from zerostor.control_socket import serve_control
    from zerostor.core.units import parse_address
    from zerostor.engine.console_files import ConsoleFiles
    from zerostor.node_wiring import build_nodes
    from zerostor.telemetry_wiring import build_telemetry

    async with build_nodes(config) as parts, build_telemetry(config, parts) as telemetry:
        control = HubControl(parts.roll, parts.upkeep, parts.book, parts.fleet, parts.census,
                             parts.verifier, parts.application,
                             HubFacts(str(config.nodes.listen), config.nodes.heartbeat,
                                      parts.events, parts.wear.years))
        of_telemetry = TelemetryControl(telemetry)
        answers = application(control.routes(), of_telemetry.routes())
        listen = parse_address(config.telemetry.console) if config.telemetry.console else None
        files = ConsoleFiles(telemetry)
        await files.settle()
        console = Console(files)
        async with (serve_control(answers, config.paths.nodes_socket),
                    console.serving(config.paths.console_socket, listen)):
            await first_of(parts.upkeep.write_down(), parts.upkeep.welcome(),
                           parts.keeper.reconcile(), parts.wear.keep(), parts.census.run(),
                           parts.listener.run(), telemetry.run())
