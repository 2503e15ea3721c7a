"""`zerostor logout`."""

from __future__ import annotations

import time

import click

from gateway.credentials import Keyring, Pins, parse_url
from gateway.http_client import Client
from zerostor.core.errors import ZerostorError


@click.command("logout", short_help="Sign out of a gateway.")
@click.argument("url", required=False)
@click.option("--forget", is_flag=True,
              help="Forget its key and certificate as well: the next login takes new ones.")
def command(url: str | None, forget: bool) -> None:
    """End the session at the gateway at URL, and forget what opens it.

    \b
    Examples:
      zerostor logout https://store.example.org
      zerostor logout --forget https://store.example.org     its key has changed, and should have
    """
    from zerostor.config import server_address, user_folder

    address = parse_url(url or server_address())
    keyring = Keyring(user_folder())
    credential = keyring.credential(address.place)
    if credential is not None:
        if credential.session and credential.expires > time.time():
            _revoke(Client(address.text, keyring), credential.session)
        keyring.keep(address.place, None)
        click.echo(f"signed out of {address.text}")
    elif not forget:
        click.echo(f"nobody was signed in to {address.text}", err=True)
    if forget and any(keyring.pins(address.place)):
        keyring.pin(address.place, Pins())
        click.echo(f"{address.text} is not known here any more")


def _revoke(client: Client, session: str) -> None:
    try:
        client.ask("/api/sessions/revoke", method="POST", body={"session": session})
    except ZerostorError as error:
        click.echo(f"zerostor: the gateway could not be told ({error}): to it the session is good"
                   " until its day is over", err=True)
