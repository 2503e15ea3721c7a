"""`zerostor status`."""

from __future__ import annotations

from typing import Any

import click

from gateway.commands.options import Seconds, json_option, print_json, server_option
from gateway.commands.tables import print_line
from gateway.commands.waiting import follow, link_of
from gateway.http_client import Client


@click.command("status", short_help="Ask how a job is doing.")
@click.argument("job")
@click.option("--wait", type=Seconds(), default=0.0, help="Wait this long for it to end, as 5m.")
@json_option
@server_option
def command(job: str, wait: float, as_json: bool, client: Client) -> None:
    """Ask how JOB is doing: ACTIVE, WAITING for something, ERROR with a reason, or its link.

    \b
    Examples:
      zerostor status 0d3f...            what is known now
      zerostor status 0d3f... --wait 5m  wait for the link
    """
    status = follow(client, job, wait)
    if as_json:
        print_json(status)
    else:
        print_line(_line(client, status))
    if status.get("state") == "ERROR":
        raise click.exceptions.Exit(1)


def _line(client: Client, status: dict[str, Any]) -> str:
    state, detail = status.get("state"), status.get("detail") or ""
    if state == "DONE":
        return link_of(client, status)
    if state == "ACTIVE":
        return f"ACTIVE {float(status.get('progress') or 0):.0%}"
    return f"{state}: {detail}" if detail else str(state)
