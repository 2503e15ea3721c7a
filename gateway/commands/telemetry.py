"""`zerostor telemetry ...`."""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote, urlencode

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import print_table, second
from gateway.http_client import BLOCK, Client, Refused, Unreachable
from gateway.plain_text import plain_lines
from zerostor.core.telemetry import ENTRY_MAX
from zerostor.core.units import size_text

READ_AT_ONCE = 256 * 1024
LOOK_SECONDS = 1.0
PAUSE_MAX = 30.0
LINE_MAX = 8 * ENTRY_MAX
"""Bytes of the JSON of an entry."""
LINES = "application/x-ndjson"
_AWAY = (502, 503, 504)
_T = TypeVar("_T")


@click.group("telemetry", short_help="Streams of telemetry on nodes: write, read, list.")
def command() -> None:
    """Streams that are appended to, kept as chunks on ESP32 nodes.

    \b
    Examples:
      zerostor telemetry write shed "t=20.5 h=41"
      vmstat -n 10 | zerostor telemetry write host --lines --follow
      zerostor telemetry read shed --from 2026-03-01
      zerostor telemetry ls
    """


@command.command("write", short_help="Append to a stream.")
@click.argument("stream")
@click.argument("text", required=False)
@click.option("--lines", is_flag=True, help="Each line of stdin is an entry, with its own time.")
@click.option("--follow", is_flag=True,
              help="While no gateway answers wait, and go on: for a pipe that does not end.")
@click.option("--bytes", "raw", is_flag=True, help="The stream holds bytes, if this makes it.")
@json_option
@server_option
def write(stream: str, text: str | None, lines: bool, follow: bool, raw: bool, as_json: bool,
          client: Client) -> None:
    """Append TEXT and a line end to STREAM, or else stdin, as it comes: whole lines, of which those
    that come together are one entry.

    What was appended outlives a power cut of the hub. With --follow an entry whose answer got lost
    is sent again, and may be there twice.

    \b
    Examples:
      zerostor telemetry write shed "t=20.5 h=41"
      vmstat -n 10 | zerostor telemetry write host --lines --follow
      zerostor telemetry write photos --bytes < photo.jpg
    """
    kind = "application/octet-stream" if raw else "text/plain; charset=utf-8"
    path = f"/api/telemetry/{quote(stream, safe='')}"
    answer: dict[str, object] = {}
    entries = [text.encode(errors="surrogateescape") + b"\n"] if text is not None else (
        _entries(lines=lines, raw=raw))
    for entry in entries:
        answer = _outlasting(client.send, path, entry, kind, follow=follow)
    if as_json:
        print_json(answer)
    elif not answer:
        click.echo("there was nothing to append", err=True)


@command.command("read", short_help="Print a stream.")
@click.argument("stream")
@click.option("--from", "begin", help="Entries from then on, as 2026-03-01T12:00:00Z or seconds.")
@click.option("--to", "end", help="Entries before then.")
@click.option("--times", is_flag=True, help="A line of JSON an entry, with its time.")
@click.option("--follow", is_flag=True, help="Go on with what is appended, until Ctrl-C.")
@server_option
def read(stream: str, begin: str | None, end: str | None, times: bool, follow: bool,
         client: Client) -> None:
    """Print STREAM, from the nodes, each chunk verified; times without a zone are UTC.

    \b
    Examples:
      zerostor telemetry read shed --from 2026-03-01 --to 2026-03-02
      zerostor telemetry read shed --times | jq -r .text
      zerostor telemetry read shed --from 2026-03-01T12:00:00Z --follow
    """
    path = f"/api/telemetry/{quote(stream, safe='')}"
    if follow:
        if end is not None:
            raise click.UsageError("--follow has no end: leave out --to")
        _follow(client, path, begin, times=times)
    chosen = {name: value for name, value in (("from", begin), ("to", end)) if value}
    with client.open(f"{path}?{urlencode(chosen)}",
                     accept=LINES if times else "*/*") as response:
        while part := response.read1(BLOCK):
            _print(part)


@command.command("ls")
@json_option
@server_option
def ls(as_json: bool, client: Client) -> None:
    """List the streams: how many of their chunks have all copies on nodes, and how many wait for
    nodes, since when.
    """
    answer = client.ask("/api/telemetry")
    if as_json:
        print_json(answer)
        return
    print_table(["stream", "kind", "size", "chunks", "spread", "waiting", "since", "local",
                 "last"], [
        [one["name"], "text" if one["text"] else "bytes", size_text(one["size"]), one["chunks"],
         one["spread"], one["waiting"], _time(one["waiting_since"]), one["local"],
         _time(one["last"])]
        for one in answer.get("streams") or []])


@command.command("rm")
@click.argument("stream")
@server_option
def rm(stream: str, client: Client) -> None:
    """Remove STREAM with all its chunks."""
    client.ask(f"/api/telemetry/{quote(stream, safe='')}", method="DELETE")


def _time(at: float | None) -> str:
    return second(at) if at else ""


def _entries(*, lines: bool, raw: bool) -> Iterator[bytes]:
    """Of stdin, as soon as they are there: whole lines where these are not endless."""
    rest = b""
    while block := os.read(sys.stdin.fileno(), READ_AT_ONCE):
        rest += block
        end = rest.rfind(b"\n") + 1
        if raw or (not end and len(rest) > ENTRY_MAX - READ_AT_ONCE):
            end = len(rest)
        whole, rest = rest[:end], rest[end:]
        if lines and not raw:
            yield from io.BytesIO(whole)
        elif whole:
            yield whole
    if rest:
        yield rest


def _outlasting(ask: Callable[..., _T], *arguments: object, follow: bool) -> _T:
    """What `ask` returns; where it is to follow, once a gateway and its hub are there."""
    pause = 1.0
    while True:
        try:
            return ask(*arguments)
        except (Unreachable, Refused) as error:
            if not follow or (isinstance(error, Refused) and error.status not in _AWAY):
                raise
            click.echo(f"zerostor: {error}; trying again in {pause:g} s", err=True)
        time.sleep(pause)
        pause = min(PAUSE_MAX, 2 * pause)


def _follow(client: Client, path: str, begin: str | None, *, times: bool) -> NoReturn:
    """Look again and again. Several entries may have one time, so those that were seen of the last
    one are counted.
    """
    last, seen = 0.0, 0

    def look() -> None:
        nonlocal last, seen
        start, skip = last, seen
        chosen = {"from": f"{last:.3f}"} if seen else {"from": begin} if begin else {}
        with client.open(f"{path}?{urlencode(chosen)}", accept=LINES) as response:
            while line := response.readline(LINE_MAX):
                entry: dict[str, Any] = json.loads(line)
                at = float(entry["at"])
                if at == start and skip:
                    skip -= 1
                elif at >= start:
                    last, seen = at, seen + 1 if at == last else 1
                    _print(line if times else _content(entry))

    while True:
        _outlasting(look, follow=bool(seen))
        time.sleep(LOOK_SECONDS)


def _print(content: bytes) -> None:
    """As it is; but on a terminal it does not act: anyone who may append chose it."""
    if sys.stdout.isatty():
        click.echo(plain_lines(content.decode(errors="replace")), nl=False)
    else:
        click.echo(content, nl=False)


def _content(entry: dict[str, Any]) -> bytes:
    if "base64" in entry:
        return base64.b64decode(entry["base64"])
    return str(entry["text"]).encode()
