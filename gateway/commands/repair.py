"""`zerostor repair`."""

from __future__ import annotations

import math
import time
from typing import Any

import click

from gateway.commands.check import check_everything
from gateway.commands.links import read_link
from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import print_line, print_table
from gateway.commands.waiting import follow
from gateway.http_client import Client, Refused
from gateway.plain_text import plain

HARD_WAIT = 3600.0
"""Seconds that reading a whole object back may take."""
LOOK_SECONDS = 0.5
KEEPER_PATIENCE = 30.0
"""Seconds until another keeper leads where one died, and more."""
QUIET = 2
_WHOLE = ("healthy", "repaired")


@click.command("repair", short_help="Make again what is missing or wrong of objects.")
@click.argument("links", nargs=-1, metavar="[LINK]...")
@click.option("--all", "every", is_flag=True, help="Check everything, and repair what is not good.")
@click.option("--hard", is_flag=True, help="With --all: read everything, not only look at it.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--wait", is_flag=True, help="Wait until it is done.")
@json_option
@server_option
def command(links: tuple[str, ...], every: bool, hard: bool, dry_run: bool, wait: bool,
            as_json: bool, client: Client) -> None:
    """Have the keeper make again every shard of the objects behind LINKS that is missing or wrong.

    It does so by itself for whatever it finds; this is for who will not wait for that. Exit code 0:
    it is asked for, or done; 1: something could not be repaired.

    \b
    Examples:
      zerostor repair 1f0c...00000007 --wait
      zerostor repair 1f0c...00000007 --dry-run   say what would be done
      zerostor repair --all                       whatever is not good
    """
    if every == bool(links):
        raise click.UsageError("name links to repair, or give --all")
    if hard and not every:
        raise click.UsageError("--hard is for --all: a LINK is always read as a whole")
    if every:
        _repair_all(client, hard=hard, dry_run=dry_run, wait=wait, as_json=as_json)
        return
    for link in links:
        read_link(link, client)  # raises before any is asked for
    results = [_repair(client, link, dry_run=dry_run, wait=wait) for link in links]
    if as_json:
        print_json(results if len(results) > 1 else results[0])
    else:
        for link, result in zip(links, results, strict=True):
            _print(link, result)
    if any("error" in result or (_left(result) and (wait or dry_run)) for result in results):
        raise click.exceptions.Exit(1)


def _repair(client: Client, link: str, *, dry_run: bool, wait: bool) -> dict[str, Any]:
    there, parsed, _ = read_link(link, client)
    try:
        if dry_run:
            return there.ask(f"/api/repair/{parsed}?dry_run=1", method="POST", wait=HARD_WAIT)
        answer = there.ask(f"/api/repair/{parsed}", method="POST", wait=60.0)
        if not wait:
            return answer
        status = follow(there, str(answer["job"]), math.inf)
    except Refused as error:
        return {"hash": str(parsed), "error": plain(str(error))}
    if status.get("state") == "ERROR":
        return {"hash": str(parsed), "error": plain(str(status.get("detail")))}
    return dict(status.get("repair") or {})


def _left(result: dict[str, Any]) -> bool:
    return bool(result.get("left")) or result.get("state") not in (*_WHOLE, None)


def _print(link: str, result: dict[str, Any]) -> None:
    if "error" in result:
        click.echo(f"zerostor: {link}: {result['error']}", err=True)
    elif "job" in result:
        print_line(f"{link}: asked for, job {result['job']}")
    else:
        print_line(f"{link}: {result.get('state')}: {result.get('good')} of {result.get('total')}"
                   " shards were good")
        rows = [[each.get("shard"), each.get("before"), each.get("store"), each.get("was"),
                 each.get("reason")] for each in result.get("mended") or []]
        if rows:
            print_table(["SHARD", "WAS ON", "NOW ON", "WAS", ""], rows)
        for line in result.get("left") or []:
            print_line(f"left: {line}")


def _repair_all(client: Client, *, hard: bool, dry_run: bool, wait: bool, as_json: bool) -> None:
    path = f"/api/repairs?mode={'hard' if hard else 'soft'}&dry_run={int(dry_run)}"
    whole = check_everything(client, path, as_json=as_json, changing=True)
    if whole or dry_run or not wait:
        return
    state = _ended(client)
    print_line(f"repaired: {state.get('done')} stripe sets, {state.get('shards')} shards",
               err=as_json)
    if state.get("failed"):
        raise click.exceptions.Exit(1)


def _ended(client: Client) -> dict[str, Any]:
    """How repairs stand when nothing waits: said twice since, as what was taken off the board
    just now is in no earlier word.
    """
    heard, quiet, missed = 0.0, 0, 0
    while True:
        state = client.ask("/api/repairs")
        missed = 0 if state.get("running") else missed + 1
        if missed * LOOK_SECONDS > KEEPER_PATIENCE:
            raise click.ClickException("no keeper is there: start one with `zerostor keeper`")
        if state.get("waiting") or state.get("asked") or state.get("current"):
            quiet = 0
        elif state.get("running") and state.get("at") != heard:
            quiet += 1
        heard = float(state.get("at") or 0.0)
        if quiet > QUIET:
            return state
        time.sleep(LOOK_SECONDS)
