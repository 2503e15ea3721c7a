"""`zerostor rm`."""

from __future__ import annotations

import time
from typing import Any

import click

from gateway.commands.dark_links import act_on
from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import moment, print_table
from gateway.http_client import Client, Refused
from zerostor.core.units import size_text


@click.command("rm", short_help="Remove objects: their links go dark, later their bytes go.")
@click.argument("links", nargs=-1, metavar="LINK...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--list", "listed", is_flag=True, help="List what can be restored or released.")
@json_option
@server_option
def command(links: tuple[str, ...], yes: bool, listed: bool, as_json: bool, client: Client) -> None:
    """Remove the objects behind LINKS. They answer 410 at once, here and on all slaves; until the
    grace is over, a day unless the settings say else, `zerostor restore` takes it back. Then their
    bytes are deleted from all stores.

    Admins remove anything, and where people sign in with keys each one what he uploaded. What
    caches on the way, and others, have copied of an object is not touched.

    \b
    Examples:
      zerostor rm 1f0c...00000007.jpg
      zerostor rm --yes 1f0c...00000007 5f1d...0000002a
      zerostor rm --list
    """
    if listed == bool(links):
        raise click.UsageError("name links to remove, or --list")
    if listed:
        _show(client, as_json=as_json)
        return
    if not yes:
        what = links[0] if len(links) == 1 else f"{len(links)} objects"
        click.confirm(f"Remove {what}?", abort=True, err=True)
    act_on(client, links, lambda there, wanted: there.ask(f"/api/objects/{wanted}",
                                                          method="DELETE"), as_json=as_json)


def _show(client: Client, *, as_json: bool) -> None:
    rows: list[dict[str, Any]] = []
    following: int | None = 0
    while following is not None:
        answer = client.ask(f"/api/removed?limit=1000&from={following}")
        rows += answer.get("removed") or []
        before, following = following, answer.get("next")
        if following is not None and following <= before:
            raise Refused(200, "", "the gateway names the same objects again and again")
    if as_json:
        print_json(rows)
        return
    print_table(["LINK", "STATE", "SINCE", "TIME LEFT", "SIZE", "BY"], [
        [str(row.get("link")).rpartition("/")[2], row.get("state"), moment(row.get("at")),
         _left(row.get("until")), size_text(row.get("size") or 0), row.get("by")]
        for row in rows])


def _left(until: float | None) -> str:
    if until is None:
        return ""
    minutes = int(until - time.time()) // 60
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes > 0 else "over"
