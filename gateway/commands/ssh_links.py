"""`zerostor ssh-links`."""

from __future__ import annotations

from urllib.parse import quote

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import print_table
from gateway.commands.waiting import link_of
from gateway.http_client import Client
from zerostor.core.limits import LISTED, LISTED_MAX
from zerostor.core.units import size_text


@click.command("ssh-links", short_help="List what was stored from an SSH home.")
@click.argument("user")
@click.option("--limit", type=click.IntRange(1, LISTED_MAX), default=LISTED, show_default=True,
              help="How many, the newest first.")
@click.option("--before", type=click.IntRange(0), metavar="NUMBER",
              help="Only those before this number, for the next page.")
@json_option
@server_option
def command(user: str, limit: int, before: int | None, as_json: bool, client: Client) -> None:
    """List the links of files and folders that were stored from USER's home, the newest first.

    \b
    Examples:
      zerostor ssh-links anna
      zerostor ssh-links anna --json | jq -r '.links[].link'
    """
    page = "" if before is None else f"&before={before}"
    answer = client.ask(f"/api/ssh/links/{quote(user, safe='')}?limit={limit}{page}")
    if as_json:
        print_json(answer)
        return
    if not answer.get("links"):
        click.echo("nothing was stored from this home yet", err=True)
    print_table(["number", "path", "size", "link", ""],
                [[link["number"], link["path"], size_text(link["size"]), link_of(client, link),
                  "removed" if link.get("removed") else ""]
                 for link in answer.get("links") or []])
