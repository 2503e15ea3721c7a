"""`zerostor scrub`."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import moment, print_line, print_table
from gateway.http_client import Client
from zerostor.core.errors import SetupError
from zerostor.core.units import size_text

ACTIONS = ("status", "start", "pause", "resume", "stop")
LOOK_SECONDS = 1.0
HEARD_SECONDS = 60.0
"""For a keeper to hear of what it is told."""


@click.command("scrub", short_help="Passes over everything: how they go; start, pause, stop one.")
@click.argument("action", type=click.Choice(ACTIONS), default="status")
@click.option("--soft", "mode", flag_value="soft",
              help="Only whether each shard is there, with its trailer.")
@click.option("--hard", "mode", flag_value="hard", help="Read every byte.  [default]")
@click.option("--wait", is_flag=True, help="With start: until the pass has ended, with progress.")
@click.option("--orphans", type=click.Choice(("list", "remove")),
              help="Shards that no record names and that were found a day ago.")
@json_option
@server_option
def command(action: str, mode: str | None, wait: bool, orphans: str | None, as_json: bool,
            client: Client) -> None:
    """Show how the scrub goes, or tell it what to do.

    The keeper looks for missing shards every six hours and reads every byte once a day where there
    is time, in 7 days at the latest (`keeper.scrub`). What is wrong is repaired. It steps back
    while others are at work; a pass that was started by hand goes as fast as it may.

    With --wait the exit code is 1 if the pass found something wrong.

    \b
    Examples:
      zerostor scrub
      zerostor scrub start --soft --wait
      zerostor scrub pause
      zerostor scrub --orphans list
    """
    if orphans is not None and (action != "status" or mode or wait):
        raise click.UsageError("--orphans goes alone")
    if wait and action != "start":
        raise click.UsageError("--wait goes with start")
    if mode and action not in ("start", "stop"):
        raise click.UsageError(f"--{mode} goes with start and stop")
    before = _state(client)
    if orphans == "remove":
        action = "remove-orphans"
    if action != "status":
        told = client.ask("/api/scrub", method="POST", body={"action": action, "mode": mode})
        if not wait:
            print_json(told) if as_json else print_line(f"the keeper is told: {action}")
            return
        ended = _follow(client, before, mode or "hard", quiet=as_json)
        print_json(ended) if as_json else print_line(_line(ended))
        if sum(_count(ended, name) for name in ("missing", "corrupt", "unreadable", "unknown")):
            raise click.exceptions.Exit(1)
        return
    if as_json:
        print_json(before)
    elif orphans == "list":
        _show_orphans(before)
    else:
        _show(before)


def _state(client: Client) -> dict[str, Any]:
    return dict(client.ask("/api/scrub"))


def _count(row: dict[str, Any], name: str) -> int:
    return int(row.get(name) or 0)


def _ended(state: dict[str, Any], mode: str) -> dict[str, Any]:
    """The last pass of that mode."""
    return next((dict(row) for row in state.get("last") or [] if row.get("mode") == mode), {})


def _follow(client: Client, before: dict[str, Any], mode: str, *, quiet: bool) -> dict[str, Any]:
    """The pass, once it has ended; a line of progress on a terminal."""
    known, heard_by = _ended(before, mode).get("ended"), time.monotonic() + HEARD_SECONDS
    shows = sys.stderr.isatty() and not quiet
    while True:
        state = _state(client)
        ended = _ended(state, mode)
        if ended and ended.get("ended") != known:
            if shows:
                click.echo("\r\033[K", nl=False, err=True)
            return ended
        under_way = any(row.get("mode") == mode for row in state.get("passes") or [])
        if not under_way and time.monotonic() > heard_by:
            raise SetupError("no keeper takes it up: is one running? see `readyz` of the gateway")
        if shows:
            click.echo(f"\r\033[K{_progress(state)}"[:200], nl=False, err=True)
        time.sleep(LOOK_SECONDS)


def _progress(state: dict[str, Any]) -> str:
    share = float(state.get("progress") or 0.0)
    bar = "#" * int(30 * share)
    eta = state.get("eta")
    left = f", {_time(float(eta))} left" if eta is not None else ""
    return f"{state.get('mode') or 'scrub'} [{bar:<30}] {100 * share:.0f} %{left}"


def _show(state: dict[str, Any]) -> None:
    if state.get("state") == "unknown":
        print_line("no keeper has said anything of a scrub yet")
        return
    running = state.get("passes") or []
    print_line(f"scrub: {state.get('state')}"
               + (f", {_progress(state)}" if running else "")
               + (f", {size_text(int(state.get('rate') or 0))}/s" if state.get("rate") else ""))
    if state.get("held_back") and running:
        print_line(f"it steps back: {state['held_back']}")
    for row in [*running, *(state.get("last") or [])]:
        print_line(_line(dict(row)))
    if _count(state, "orphans") or _count(state, "young"):
        print_line(f"named by no record: {_count(state, 'orphans')} shards (`zerostor scrub"
                   f" --orphans list`), and {_count(state, 'young')} not for a day yet")


def _line(row: dict[str, Any]) -> str:
    done = f"ended {moment(row.get('ended'))}" if row.get("ended") else "is under way"
    done = f"was stopped {moment(row.get('ended'))}" if row.get("stopped") else done
    names = {"missing": "shards missing", "corrupt": "damaged", "unreadable": "unreadable",
             "unknown": "records damaged", "repairs": "repairs asked for"}
    found = ", ".join(f"{_count(row, key)} {text}" for key, text in names.items()
                      if _count(row, key)) or "nothing wrong"
    return (f"{row.get('mode')} pass of {moment(row.get('begun'))} {done}:"
            f" {_count(row, 'sets')} stripe sets, {size_text(_count(row, 'size'))}; {found}")


def _show_orphans(state: dict[str, Any]) -> None:
    rows = state.get("listed") or []
    print_table(["STORE", "SHARD", "FIRST SEEN"], [
        [row.get("store"), row.get("key"), moment(row.get("first_seen"))] for row in rows])
    more = _count(state, "orphans") - len(rows)
    if more > 0:
        print_line(f"and {more} more")


def _time(seconds: float) -> str:
    minutes = int(seconds) // 60
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m"
