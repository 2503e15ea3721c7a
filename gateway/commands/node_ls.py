"""`zerostor node ls`."""

from __future__ import annotations

from typing import Any

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import print_table
from gateway.http_client import Client
from zerostor.core.node_chunk import years_text
from zerostor.core.units import size_text

MINUTE, HOUR, DAY = 60, 3600, 86_400


@click.command("ls", short_help="See all nodes and how they are.")
@json_option
@server_option
def command(as_json: bool, client: Client) -> None:
    """List the nodes: who is connected, how full its flash is, how long that lasts.

    \b
    Examples:
      zerostor node ls
      zerostor node ls --json | jq -r '.nodes[] | select(.state == "away") | .name'
    """
    answer = client.ask("/api/nodes")
    if as_json:
        print_json(answer)
        return
    nodes = answer.get("nodes") or []
    if not nodes:
        click.echo("there are no nodes; `zerostor node add NAME` makes one, `zerostor node emulate`"
                   " some to try out", err=True)
    print_table(["name", "owner", "site", "state", "chunks", "used", "free", "heap", "up",
                 "flash lasts", "last event"], [_row(node) for node in nodes])


def _row(node: dict[str, Any]) -> list[object]:
    last = node.get("last_event") or {}
    told = f"{last.get('kind')}: {last.get('detail')}" if last else ""
    head = [node["name"], node["owner"], node["site"], node["state"]]
    if node["state"] != "connected":
        return [*head, "", "", "", "", "", "", told]
    chunks = f"{node['chunks']} ({node['unknown']} unknown)" if node.get("unknown") else (
        node["chunks"])
    return [*head, chunks, size_text(node["size"] - node["free"]), size_text(node["free"]),
            size_text(node["heap"]), time_text(node["uptime"]),
            years_text(node.get("years_left")), told]


def time_text(seconds: float) -> str:
    """About how long, for a person."""
    for unit, size in (("d", DAY), ("h", HOUR), ("min", MINUTE)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
