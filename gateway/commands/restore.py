"""`zerostor restore`."""

from __future__ import annotations

import click

from gateway.commands.dark_links import act_on
from gateway.commands.options import json_option, server_option
from gateway.http_client import Client


@click.command("restore", short_help="Take back the removal of objects.")
@click.argument("links", nargs=-1, required=True, metavar="LINK...")
@json_option
@server_option
def command(links: tuple[str, ...], as_json: bool, client: Client) -> None:
    """Have LINKS that `zerostor rm` removed lead to their objects again, while the bytes are there:
    `zerostor rm --list` says how long. Exit code 1: one of them cannot be restored.

    \b
    Example:
      zerostor restore 1f0c...00000007
    """
    act_on(client, links, lambda there, wanted: there.ask(
        f"/api/objects/{wanted}/restore", method="POST", body={}), as_json=as_json)
