"""`zerostor quarantine`."""

from __future__ import annotations

import click

from gateway.commands.dark_links import act_on
from gateway.commands.options import json_option, server_option
from gateway.http_client import Client


@click.command("quarantine", short_help="Darken links without deleting anything.")
@click.argument("links", nargs=-1, required=True, metavar="LINK...")
@click.option("--release", is_flag=True, help="End it: the links lead to their objects again.")
@json_option
@server_option
def command(links: tuple[str, ...], release: bool, as_json: bool, client: Client) -> None:
    """Have LINKS answer 410, as removed ones do, and keep their objects, checked and repaired like
    all others, until they are released. For admins.

    \b
    Examples:
      zerostor quarantine 1f0c...00000007.jpg
      zerostor quarantine --release 1f0c...00000007.jpg
    """
    verb = "release" if release else "quarantine"
    act_on(client, links, lambda there, wanted: there.ask(
        f"/api/objects/{wanted}/{verb}", method="POST", body={}), as_json=as_json)
