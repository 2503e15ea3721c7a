"""`zerostor node events`."""

from __future__ import annotations

from urllib.parse import quote

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import print_table, second
from gateway.http_client import Client
from zerostor.core.limits import LISTED, LISTED_MAX


@click.command("events", short_help="See what happened to nodes.")
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(1, LISTED_MAX), default=LISTED, show_default=True,
              help="How many, the newest first.")
@json_option
@server_option
def command(name: str | None, limit: int, as_json: bool, client: Client) -> None:
    """Show what happened, to all nodes or to NAME: who came and went, who was refused and why.

    \b
    Examples:
      zerostor node events
      zerostor node events shed-1 --limit 20
    """
    of_one = f"&node={quote(name, safe='')}" if name else ""
    answer = client.ask(f"/api/nodes/events?limit={limit}{of_one}")
    if as_json:
        print_json(answer)
        return
    print_table(["when", "node", "what", "detail"],
                [[second(event["at"]), event["node"],
                  event["kind"], event["detail"]] for event in answer.get("events") or []])
