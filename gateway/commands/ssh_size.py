"""`zerostor ssh-size`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import print_line, print_table
from gateway.http_client import Client, Refused
from zerostor.core.units import size_text


@click.command("ssh-size", short_help="See how full SSH homes are, and who may log in.")
@click.argument("user", required=False)
@json_option
@server_option
def command(user: str | None, as_json: bool, client: Client) -> None:
    """Show what USER's files take of the limit, or what those of all users do.

    \b
    Examples:
      zerostor ssh-size
      zerostor ssh-size anna --json | jq .free
    """
    if as_json and user is not None:
        print_json(client.ask(f"/api/ssh/size/{quote(user, safe='')}"))
        return
    try:
        answer = client.ask("/api/ssh/homes")
    except Refused as error:
        if error.status != 403 or user is None:
            raise
        _show_own(user, client)
        return
    if as_json:
        print_json(answer)
        return
    homes = [home for home in answer.get("homes") or [] if user in (None, home.get("user"))]
    if user is not None and not homes:
        raise Refused(404, "unknown-home", f"there is no SSH home {user!r}; `zerostor ssh-enable"
                      f" {user} --key FILE` makes it")
    server = answer.get("server") or {}
    print_line(f"SSH on {server.get('address')}, host key {server.get('fingerprint')}")
    print_table(["user", "used", "limit", "files", "full", "keys", "when full", "stores itself"],
                [_row(home) for home in homes])
    if user is not None:
        print_table(["key", "comment"],
                    [[key["fingerprint"], key["comment"]] for key in homes[0]["keys"]])


def _show_own(user: str, client: Client) -> None:
    """As much as a user may know of the home that has his name."""
    size = client.ask(f"/api/ssh/size/{quote(user, safe='')}")
    print_table(["user", "used", "limit", "files", "full"], [
        [user, size_text(size["used"]), size_text(size["limit"]), size.get("files"),
         f"{size['used'] / size['limit']:.0%}"]])


def _row(home: dict[str, Any]) -> list[object]:
    used, limit = home.get("used"), int(home["limit"])
    auto = home.get("auto_process")
    return [home["user"], "counting" if used is None else size_text(used), size_text(limit),
            home.get("files"), "" if used is None else f"{used / limit:.0%}",
            len(home["keys"]) if home["enabled"] else "closed", home["quota"],
            f"after {auto['quiet']:g} s" if auto else "no"]
