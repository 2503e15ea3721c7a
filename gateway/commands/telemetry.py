"""`zerostor telemetry ...`."""

from __future__ import annotations

import sys
import time
from urllib.parse import quote, urlencode

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import print_table
from gateway.http_client import BLOCK, Client
from zerostor.core.units import size_text

READ_AT_ONCE = 256 * 1024


@click.group("telemetry", short_help="Streams of telemetry on nodes: write, read, list.")
def command() -> None:
    """Streams that are appended to, kept as chunks on ESP32 nodes.

    \b
    Examples:
      zerostor telemetry write shed "t=20.5 h=41"
      sensors | zerostor telemetry write host
      zerostor telemetry read shed --from 2026-03-01
      zerostor telemetry ls
    """


@command.command("write")
@click.argument("stream")
@click.argument("text", required=False)
@click.option("--bytes", "raw", is_flag=True, help="The stream holds bytes, if this makes it.")
@json_option
@server_option
def write(stream: str, text: str | None, raw: bool, as_json: bool, client: Client) -> None:
    """Append TEXT and a line end to STREAM, or what comes from stdin as it is."""
    kind = "application/octet-stream" if raw else "text/plain; charset=utf-8"
    entries = 0
    answer: dict[str, object] = {}
    contents = [text.encode(errors="surrogateescape") + b"\n"] if text is not None else (
        iter(lambda: sys.stdin.buffer.read(READ_AT_ONCE), b""))
    for content in contents:
        answer = client.send(f"/api/telemetry/{quote(stream, safe='')}", content, kind)
        entries += 1
    if as_json:
        print_json(answer)
    elif not entries:
        click.echo("there was nothing to append", err=True)


@command.command("read")
@click.argument("stream")
@click.option("--from", "begin", help="Entries from then on, as 2026-03-01T12:00:00Z or seconds.")
@click.option("--to", "end", help="Entries before then.")
@click.option("--times", is_flag=True, help="A line of JSON an entry, with its time.")
@server_option
def read(stream: str, begin: str | None, end: str | None, times: bool, client: Client) -> None:
    """Print STREAM, from the nodes, each chunk verified."""
    chosen = {name: value for name, value in (("from", begin), ("to", end)) if value}
    path = f"/api/telemetry/{quote(stream, safe='')}?{urlencode(chosen)}"
    with client.open(path, accept="application/x-ndjson" if times else "*/*") as response:
        while part := response.read1(BLOCK):
            click.echo(part, nl=False)


@command.command("ls")
@json_option
@server_option
def ls(as_json: bool, client: Client) -> None:
    """List the streams, and how much of each has all its copies on nodes."""
    answer = client.ask("/api/telemetry")
    if as_json:
        print_json(answer)
        return
    print_table(["stream", "kind", "size", "chunks", "spread", "waiting", "local", "last"], [
        [one["name"], "text" if one["text"] else "bytes", size_text(one["size"]), one["chunks"],
         one["spread"], one["waiting"], one["local"],
         time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["last"]))]
        for one in answer.get("streams") or []])


@command.command("rm")
@click.argument("stream")
@server_option
def rm(stream: str, client: Client) -> None:
    """Remove STREAM with all its chunks."""
    client.ask(f"/api/telemetry/{quote(stream, safe='')}", method="DELETE")
