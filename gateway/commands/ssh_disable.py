"""`zerostor ssh-disable`."""

from __future__ import annotations

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.http_client import Client


@click.command("ssh-disable", short_help="Revoke a key of an SSH home, or close it.")
@click.argument("user")
@click.option("--key", "fingerprint", metavar="SHA256:...",
              help="Only this key; `zerostor ssh-size USER` lists them.")
@json_option
@server_option
def command(user: str, fingerprint: str | None, as_json: bool, client: Client) -> None:
    """Let USER in no longer: sessions end at once, all keys are dropped. The files stay.

    \b
    Examples:
      zerostor ssh-disable anna
      zerostor ssh-disable anna --key SHA256:5oM...
    """
    asked: dict[str, object] = {"username": user}
    if fingerprint is not None:
        asked["fingerprint"] = fingerprint
    answer = client.ask("/api/ssh/disable", method="POST", body=asked)
    if as_json:
        print_json(answer)
        return
    left = len(answer.get("keys") or [])
    click.echo(f"{user}: keys left: {left}" if left else f"{user}: nobody can log in any more")
    click.echo(f"the files stay, in {answer.get('files_stay_in')}")
