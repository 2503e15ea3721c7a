"""`zerostor check`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from gateway.commands.everything import Portions
from gateway.commands.links import read_link
from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import print_line, print_table
from gateway.http_client import Client, Refused
from gateway.plain_text import plain

HARD_WAIT = 3600.0
"""Seconds that reading a whole object back may take."""


@click.command("check", short_help="See where the shards of objects are, and how they are.")
@click.argument("links", nargs=-1, metavar="[LINK]...")
@click.option("--all", "every", is_flag=True, help="Check everything that is stored.")
@click.option("--hard", is_flag=True, help="Read everything back and verify the hashes as well.")
@json_option
@server_option
def command(links: tuple[str, ...], every: bool, hard: bool, as_json: bool, client: Client) -> None:
    """Check each shard of the objects behind LINKS. Exit code 0: all are good; 1: some are not, or
    an object is unreadable.

    \b
    Examples:
      zerostor check 1f0c...00000007          ask the stores
      zerostor check 1f0c...00000007 --hard   read every byte back and verify it
      zerostor check --all                    everything, with a summary
    """
    if every == bool(links):
        raise click.UsageError("name links to check, or give --all")
    mode = "hard" if hard else "soft"
    if every:
        whole = check_everything(client, f"/api/check?mode={mode}", as_json=as_json)
    elif len(links) == 1:
        whole = _check_one(client, links[0], mode, as_json=as_json)
    else:
        whole = _check_each(client, links, mode, as_json=as_json)
    if not whole:
        raise click.exceptions.Exit(1)


def check_everything(client: Client, path: str, *, as_json: bool,
                     changing: bool = False) -> bool:
    """Go through all portions that `path` answers, and sum them up; whether all is healthy."""
    portions = Portions(client, path, changing=changing)
    total: Counter[str] = Counter()
    degraded: Counter[int] = Counter()
    bad: list[dict[str, Any]] = []
    for portion in portions:
        for name in ("sets", "objects", "healthy", "unreadable", "damaged"):
            total[name] += int(portion.get(name) or 0)
        for row in portion.get("degraded") or []:
            degraded[int(row["lost"])] += int(row["objects"])
        bad += portion.get("bad") or []
    if as_json:
        rows = [{"lost": lost, "objects": count} for lost, count in sorted(degraded.items())]
        print_json({name: total[name] for name in ("sets", "objects", "healthy", "unreadable",
                                                   "damaged")} | {"degraded": rows, "bad": bad})
    else:
        _print_summary(total, degraded, bad)
    return not bad and not total["damaged"]


def _print_summary(total: Counter[str], degraded: Counter[int], bad: list[dict[str, Any]]) -> None:
    if bad:
        print_table(["LINK OR ID", "OBJECTS", "STATE", "GOOD", "WRONG"], [
            [row.get("link") or row.get("id"), row.get("objects"), row.get("state"),
             f"{row.get('good')} of {row.get('total')}", _faults(row)] for row in bad])
        print_line("")
    print_table(["STATE", "OBJECTS"], [
        ["healthy", total["healthy"]],
        *([f"degraded, {lost} shard{'s' * (lost != 1)} lost", count]
          for lost, count in sorted(degraded.items())),
        ["unreadable", total["unreadable"]],
        *([["records damaged", total["damaged"]]] if total["damaged"] else [])])


def _faults(row: dict[str, Any]) -> str:
    faults = Counter(str(fault.get("state")) for fault in row.get("faults") or [])
    told = ", ".join(f"{count} {state}" for state, count in sorted(faults.items()))
    return str(row["content"]) if row.get("content") not in (None, "good") else told


def _check_one(client: Client, link: str, mode: str, *, as_json: bool) -> bool:
    answer = _ask(client, link, mode)
    if as_json:
        print_json(answer)
    else:
        shards = answer.get("shards") or []
        rows = [[s.get("index"), s.get("store"), s.get("state"), s.get("detail")] for s in shards]
        print_table(["shard", "store", "state", ""], rows)
        print_line(f"{answer['state']}: {answer['good']} of {answer['total']} shards good,"
                   f" {answer['needed']} needed")
    return _healthy(answer)


def _check_each(client: Client, links: tuple[str, ...], mode: str, *, as_json: bool) -> bool:
    for link in links:
        read_link(link, client)  # raises before any is asked for
    answers: list[dict[str, Any]] = []
    for link in links:
        try:
            answers.append(_ask(client, link, mode))
        except Refused as error:
            answers.append({"hash": link, "state": "none", "error": plain(str(error))})
    if as_json:
        print_json(answers)
    else:
        print_table(["LINK", "STATE", "GOOD", ""], [
            [link, answer["state"], f"{answer['good']} of {answer['total']}" if "good" in answer
             else "", answer.get("error", "")]
            for link, answer in zip(links, answers, strict=True)])
    return all(map(_healthy, answers))


def _ask(client: Client, link: str, mode: str) -> dict[str, Any]:
    there, parsed, _ = read_link(link, client)
    return there.ask(f"/api/check/{parsed}?mode={mode}", wait=HARD_WAIT if mode == "hard" else 60.0)


def _healthy(answer: dict[str, Any]) -> bool:
    return answer.get("state") == "healthy" and int(answer["good"]) == int(answer["total"])
