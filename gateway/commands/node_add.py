"""`zerostor node add`."""

from __future__ import annotations

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import print_line
from gateway.http_client import Client


@click.command("add", short_help="Let a node dial in: makes its key.")
@click.argument("name")
@click.option("--owner", default="", help="Whose it is: copies go to different owners.")
@click.option("--site", default="", help="Where it stands: copies go to different sites.")
@click.option("--wipe", is_flag=True,
              help="It starts empty whenever it dials in, instead of keeping what it has.")
@json_option
@server_option
def command(name: str, owner: str, site: str, wipe: bool, as_json: bool, client: Client) -> None:
    """Make a key for the node NAME (a-z 0-9 . _ -), so that it may dial in.

    The keys are shown this once: `zerostor node flash` puts them into the device.

    \b
    Examples:
      zerostor node add shed-1 --owner anna --site garden
      zerostor node add shed-1 --json > shed-1.json; zerostor node flash /dev/ttyUSB0 shed-1.json
    """
    answer = client.ask("/api/nodes/add", method="POST", body={
        "name": name, "owner": owner, "site": site, "wipe": wipe})
    if as_json:
        print_json(answer)
        return
    print_line(f"{name} may dial in to {(answer.get('hub') or {}).get('address')}")
    print_line(f"  key         {answer.get('key')}")
    print_line(f"  update key  {answer.get('update_key')}")
    click.echo("Nothing shows these again. Into a device by hand: its NVS, namespace edn, blobs"
               " name, key, update_key, hub, network, password and the number port. Adding and"
               " flashing in one step:\n  zerostor node flash /dev/ttyUSB0 --name NEW --hub"
               " HOST:PORT --wifi NETWORK")
