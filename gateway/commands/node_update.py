"""`zerostor node update`."""

from __future__ import annotations

from typing import Any

import click

from gateway.commands.node_verify import LONG
from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import print_line
from gateway.http_client import Client
from zerostor.core.errors import ZerostorError


@click.command("update", short_help="Give nodes the firmware of this zerostor, over their links.")
@click.argument("names", nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="All that are connected, one by one.")
@json_option
@server_option
@click.pass_context
def command(ctx: click.Context, names: tuple[str, ...], everyone: bool, as_json: bool,
            client: Client) -> None:
    """Give the nodes NAMES the application of this zerostor's firmware, signed for each.

    A node tries it at its next start, which is now, and goes back to the one before if three starts
    did not lead it to the hub. Chunks stay. Exit code 1 if any node did not take it.

    \b
    Examples:
      zerostor node update shed-1
      zerostor node update --all
    """
    if bool(names) is everyone:
        raise click.UsageError("name some nodes, or say --all")
    if everyone:
        nodes: list[dict[str, Any]] = client.ask("/api/nodes").get("nodes") or []
        names = tuple(node["name"] for node in nodes if node["state"] == "connected")
    failed: dict[str, str] = {}
    for name in names:
        try:
            client.ask("/api/nodes/update", method="POST", body={"name": name}, wait=LONG)
        except ZerostorError as error:
            failed[name] = str(error)
        if not as_json:
            print_line(f"{name}: {failed.get(name, 'starts with it')}")
    if as_json:
        print_json({"updated": [name for name in names if name not in failed], "failed": failed})
    ctx.exit(1 if failed else 0)
