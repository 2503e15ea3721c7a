"""`zerostor node wipe`."""

from __future__ import annotations

import click

from gateway.commands.node_verify import LONG
from gateway.commands.options import json_option, print_json, server_option
from gateway.http_client import Client


@click.command("wipe", short_help="Remove everything that a node keeps.")
@click.argument("name")
@click.option("--format", "make_anew", is_flag=True,
              help="Make the file system of its flash anew, whatever is on it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@server_option
def command(name: str, make_anew: bool, yes: bool, as_json: bool, client: Client) -> None:
    """Remove all chunks from the connected node NAME.

    A flash that holds something else than chunks is never touched without --format.

    \b
    Examples:
      zerostor node wipe shed-1
      zerostor node wipe shed-1 --format --yes
    """
    if not yes:
        click.confirm(f"Everything that {name} keeps goes, for good. Go on?", abort=True)
    answer = client.ask("/api/nodes/wipe", method="POST", wait=LONG,
                        body={"name": name, "format": make_anew})
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{name} is empty")
