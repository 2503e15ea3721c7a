"""`zerostor events`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import second
from gateway.http_client import Client, Refused
from gateway.plain_text import plain
from zerostor.core.errors import SetupError, ZerostorError
from zerostor.core.limits import LISTED, LISTED_MAX
from zerostor.core.units import parse_seconds

WAIT = 30.0
"""Seconds of one long-poll."""
AGAIN, AGAIN_MAX = 0.5, 10.0
"""Seconds until a gateway that is away is asked again; each time twice as long."""
BREATH = 0.1
"""Seconds between two questions at least."""
_ID_MIN = 10**12
"""Smaller numbers are no ids: those are about milliseconds since 1970."""
_COLOURS = {"warning": "yellow", "failure": "red"}


def _id_of(_ctx: click.Context, _param: click.Parameter, text: str | None) -> int | None:
    """An id, from one or from how long ago."""
    if text is None or (text.isascii() and text.isdigit() and int(text) >= _ID_MIN):
        return None if text is None else int(text)
    try:
        return max(0, int((time.time() - parse_seconds(text)) * 1000))
    except (SetupError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is neither a time, as 2h or 3d, nor the id of an event") from None


@click.command("events", short_help="See what happened, and go on watching.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now on.")
@click.option("--severity", type=click.Choice(["normal", "warning", "failure"]), default="normal",
              show_default=True, help="That bad or worse.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND",
              help="Of this kind, or beginning with this word, as store; may be repeated.")
@click.option("--since", callback=_id_of, metavar="TIME|ID",
              help="How long ago, as 2h or 3d, or an id: all after that.")
@click.option("--limit", type=click.IntRange(0, LISTED_MAX), default=LISTED, show_default=True,
              help="How many, the newest, where --since is not given.")
@json_option
@server_option
def command(*, follow: bool, severity: str, kinds: tuple[str, ...], since: int | None, limit: int,
            as_json: bool, client: Client) -> None:
    """Show what happened: stores that went down, damage found and mended, jobs that failed.

    Failures and warnings are there at once; normal events are told once a minute. With --follow it
    goes on over restarts of the gateway, and misses nothing.

    \b
    Examples:
      zerostor events -f
      zerostor events --severity warning --since 1d
      zerostor events --kind store --kind capacity --json | jq -r '.events[].text'
    """
    query = f"severity={severity}" + (f"&kind={quote(','.join(kinds))}" if kinds else "")
    pages = _since(client, query, since) if since is not None else iter(
        [client.ask(f"/api/events?{query}&limit={limit}")])
    told: list[dict[str, Any]] = []
    after = since or 0
    for answer in pages:
        after = _show(answer, after, as_json=as_json and follow, kept=told, silent=as_json)
    if as_json and not follow:
        print_json({"events": told, "next": after})
    elif not told and not follow:
        click.echo("nothing of that kind happened", err=True)
    if follow:
        for answer in _followed(client, query, after):
            _show(answer, after, as_json=as_json, kept=None, silent=False)


def _since(client: Client, query: str, after: int) -> Iterator[dict[str, Any]]:
    """Pages of all there is after an id."""
    while True:
        answer = client.ask(f"/api/events?{query}&limit={LISTED_MAX}&since={after}")
        yield answer
        if len(answer.get("events") or []) < LISTED_MAX:
            return
        after = int(answer["next"])


def _followed(client: Client, query: str, after: int) -> Iterator[dict[str, Any]]:
    """Pages as they come, for ever; a gateway that is away is asked again."""
    pause = 0.0
    while True:
        asked = time.monotonic()
        try:
            answer = client.ask(f"/api/events?{query}&since={after}&wait={WAIT:g}", wait=WAIT)
        except ZerostorError as error:
            if isinstance(error, Refused) and error.status < 500 and error.status != 429:
                raise
            if not pause:
                click.echo(f"{plain(error)}; asking again until it answers", err=True)
            pause = min(2 * pause or AGAIN, AGAIN_MAX)
            time.sleep(pause)
            continue
        pause, after = 0.0, _next(answer, after)
        yield answer
        time.sleep(max(0.0, BREATH - (time.monotonic() - asked)))


def _next(answer: dict[str, Any], after: int) -> int:
    found = answer.get("next")
    return found if isinstance(found, int) else after


def _show(answer: dict[str, Any], after: int, *, as_json: bool, kept: list[dict[str, Any]] | None,
          silent: bool) -> int:
    """Print a page, unless it is to be kept alone; the id to go on from."""
    for event in answer.get("events") or []:
        if kept is not None:
            kept.append(event)
        if as_json:
            print_json(event)
        elif not silent:
            click.echo(_line(event))
    return _next(answer, after)


def _line(event: dict[str, Any]) -> str:
    severity, count = plain(event.get("severity")), event.get("count")
    times = f"  ({count} times)" if isinstance(count, int) and count > 1 else ""
    origin = f"  from {plain(event['origin'])}" if event.get("origin") else ""
    shown = click.style(f"{severity:<8}", fg=_COLOURS.get(severity))
    return (f"{second(event.get('at'))}  {shown}  {plain(event.get('kind')):<20}"
            f"  {plain(event.get('text'))}{times}{origin}")
