"""`zerostor ssh-disable`."""

from __future__ import annotations

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import print_line
from gateway.http_client import Client
from zerostor.core.units import size_text


@click.command("ssh-disable", short_help="Revoke a key of an SSH home, or close it.")
@click.argument("user")
@click.option("--key", "fingerprint", metavar="SHA256:...",
              help="Only this key; `zerostor ssh-size USER` lists them.")
@click.option("--delete-files", is_flag=True, help="Take the home away for good, with its files.")
@click.option("--unstored", is_flag=True, help="With it: also files that are not stored.")
@json_option
@server_option
def command(
    user: str, fingerprint: str | None, delete_files: bool, unstored: bool, as_json: bool,
    client: Client,
) -> None:
    """Let USER in no longer: sessions end at once, all keys are dropped. The files stay.

    With --delete-files they go as well, and the home with its lists of links and events; what was
    stored from it stays. It is refused, and names them, while there are files that are not stored.

    \b
    Examples:
      zerostor ssh-disable anna
      zerostor ssh-disable anna --key SHA256:5oM...
      zerostor ssh-disable anna --delete-files
    """
    asked: dict[str, object] = {"username": user}
    if fingerprint is not None:
        asked["fingerprint"] = fingerprint
    if delete_files:
        asked |= {"delete_files": True, "unstored": unstored}
    answer = client.ask("/api/ssh/disable", method="POST", body=asked)
    if as_json:
        print_json(answer)
        return
    if gone := answer.get("deleted"):
        print_line(f"{user}: the home is gone, with {gone['files']} files"
                   f" ({size_text(gone['used'])})")
        return
    left = len(answer.get("keys") or [])
    print_line(f"{user}: keys left: {left}" if left else f"{user}: nobody can log in any more")
    print_line(f"the files stay, in {answer.get('files_stay_in')}")
