"""`zerostor node rotate`."""

from __future__ import annotations

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.http_client import Client


@click.command("rotate", short_help="Give a node a new key, over its link.")
@click.argument("name")
@click.option("--by-hand", is_flag=True,
              help="Print the new key instead, as settings for `zerostor node flash`.")
@json_option
@server_option
def command(name: str, by_hand: bool, as_json: bool, client: Client) -> None:
    """Make a new key for the node NAME and hand it over, now or when it is back.

    The old key is good until the node has used the new one, so no moment locks it out. A node whose
    key is younger than this hub's book, a copy of which was put back, gets its next one --by-hand,
    over USB; what it keeps is kept.

    \b
    Examples:
      zerostor node rotate shed-1
      zerostor node rotate shed-1 --by-hand > shed-1.json
      zerostor node flash /dev/ttyUSB0 shed-1.json
    """
    answer = client.ask("/api/nodes/rotate", method="POST", body={"name": name, "by_hand": by_hand})
    if as_json or by_hand:
        print_json(answer)
    elif answer.get("handed_over"):
        click.echo(f"{name} has its new key, and dials in with it")
    else:
        click.echo(f"{name} is away: it gets its new key when it is back; until then the old one is"
                   " good")
