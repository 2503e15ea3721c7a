"""`zerostor exists`."""

from __future__ import annotations

import click

from gateway.commands.links import read_link
from gateway.commands.options import json_option, print_json, server_option
from gateway.http_client import Client, Refused


@click.command("exists", short_help="Ask whether a link leads to something.")
@click.argument("link")
@json_option
@server_option
def command(link: str, as_json: bool, client: Client) -> None:
    """Ask whether LINK is stored. Exit code 0: it is; 1: it is not.

    \b
    Example:
      zerostor exists 1f0c...00000007 && echo safe
    """
    client, parsed, _ = read_link(link, client)
    try:
        answer = {"exists": True, **client.ask(f"/api/exists/{parsed}")}
    except Refused as error:
        if error.status not in (404, 410):
            raise
        answer = {"exists": False, "hash": str(parsed), "removed": error.status == 410}
    if as_json:
        print_json(answer)
    else:
        click.echo("stored" if answer["exists"] else
                   "removed" if answer["removed"] else "not stored")
    if not answer["exists"]:
        raise click.exceptions.Exit(1)
