"""`zerostor node rotate`."""

from __future__ import annotations

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.http_client import Client


@click.command("rotate", short_help="Give a node a new key, over its link.")
@click.argument("name")
@json_option
@server_option
def command(name: str, as_json: bool, client: Client) -> None:
    """Make a new key for the node NAME and hand it over, now or when it is back.

    The old key is good until the node has used the new one, so no moment locks it out.

    \b
    Example:
      zerostor node rotate shed-1
    """
    answer = client.ask("/api/nodes/rotate", method="POST", body={"name": name})
    if as_json:
        print_json(answer)
    elif answer.get("handed_over"):
        click.echo(f"{name} has its new key, and dials in with it")
    else:
        click.echo(f"{name} is away: it gets its new key when it is back; until then the old one is"
                   " good")
