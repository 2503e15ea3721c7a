"""`zerostor node ...`: one file a command, put together here."""

from __future__ import annotations

import click

from gateway.commands import (
    node_add,
    node_console,
    node_emulate,
    node_events,
    node_flash,
    node_jobs,
    node_ledger,
    node_ls,
    node_rm,
    node_rotate,
    node_update,
    node_verify,
    node_wipe,
)


@click.group("node", short_help="ESP32 nodes: add, flash, list, verify, wipe, emulate them.")
def command() -> None:
    """ESP32 nodes that keep chunks in their flash. The hub they dial in to runs in `zerostor up`
    where nodes.enabled is set, or by `zerostor nodes`.

    \b
    Examples:
      ZEROSTOR_NODES_ENABLED=true zerostor up
      zerostor node emulate --count 5       try it out without any hardware
      zerostor node add shed-1              a real one: makes its key, says how to flash it
      zerostor node ls
    """


for _module in (node_add, node_flash, node_ls, node_events, node_verify, node_rotate, node_update,
                node_wipe, node_rm, node_jobs, node_ledger,
                node_console, node_emulate):
    command.add_command(_module.command)
