"""`zerostor ssh-events`."""

from __future__ import annotations

from urllib.parse import quote

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import print_table, second
from gateway.http_client import Client
from zerostor.core.limits import LISTED, LISTED_MAX


@click.command("ssh-events", short_help="See what happened in an SSH home by itself.")
@click.argument("user")
@click.option("--limit", type=click.IntRange(1, LISTED_MAX), default=LISTED, show_default=True,
              help="How many, the newest first.")
@json_option
@server_option
def command(user: str, limit: int, as_json: bool, client: Client) -> None:
    """Show what happened in USER's home: files removed for room, stored, failed, or kept.

    \b
    Examples:
      zerostor ssh-events anna
      zerostor ssh-events anna --json | jq '.events[] | select(.kind == "removed")'
    """
    answer = client.ask(f"/api/ssh/events/{quote(user, safe='')}?limit={limit}")
    if as_json:
        print_json(answer)
        return
    if not answer.get("events"):
        click.echo("nothing happened in this home without its user's doing", err=True)
    print_table(["when", "what", "path", "detail"],
                [[second(event["at"]), event["kind"],
                  event["path"], event["detail"]] for event in answer.get("events") or []])
