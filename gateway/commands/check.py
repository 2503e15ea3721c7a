"""`zerostor check`."""

from __future__ import annotations

import click

from gateway.commands.links import read_link
from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import print_line, print_table
from gateway.http_client import Client

HARD_WAIT = 3600.0
"""Seconds that reading a whole object back may take."""


@click.command("check", short_help="See where the shards of an object are, and how they are.")
@click.argument("link")
@click.option("--hard", is_flag=True, help="Read everything back and verify the hash as well.")
@json_option
@server_option
def command(link: str, hard: bool, as_json: bool, client: Client) -> None:
    """Check each shard of LINK. Exit code 0: all are good; 1: some are not, or it is unreadable.

    \b
    Examples:
      zerostor check 1f0c...00000007          ask the stores
      zerostor check 1f0c...00000007 --hard   read every byte back and verify it
    """
    client, parsed, _ = read_link(link, client)
    mode = "hard" if hard else "soft"
    answer = client.ask(f"/api/check/{parsed}?mode={mode}", wait=HARD_WAIT if hard else 60.0)
    good, total = int(answer["good"]), int(answer["total"])
    if as_json:
        print_json(answer)
    else:
        shards = answer.get("shards") or []
        rows = [[s.get("index"), s.get("store"), s.get("state"), s.get("detail")] for s in shards]
        print_table(["shard", "store", "state", ""], rows)
        print_line(f"{answer['state']}: {good} of {total} shards good, {answer['needed']} needed")
    if good < total:
        raise click.exceptions.Exit(1)
