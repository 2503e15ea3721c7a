"""`zerostor node rm`."""

from __future__ import annotations

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.http_client import Client


@click.command("rm", short_help="Forget a node.")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@server_option
def command(name: str, yes: bool, as_json: bool, client: Client) -> None:
    """Forget the node NAME: its link ends, and its key is worth nothing any more.

    What it keeps stays in its flash; copies of that elsewhere count without it.

    \b
    Example:
      zerostor node rm shed-1 --yes
    """
    if not yes:
        click.confirm(f"{name} may dial in no more. Go on?", abort=True)
    answer = client.ask("/api/nodes/remove", method="POST", body={"name": name})
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{name} is forgotten")
