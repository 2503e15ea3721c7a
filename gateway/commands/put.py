"""`zerostor put`."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import click

from gateway.commands.options import Seconds, json_option, print_json, server_option
from gateway.commands.progress import Bar, transfer_bars
from gateway.commands.waiting import STEP, follow, link_of
from gateway.http_client import Client
from zerostor.core.errors import ZerostorError
from zerostor.core.link import extension_of, parse_extension
from zerostor.core.units import size_text


class Counter:
    """Bytes that went by, passed on to the bar."""

    def __init__(self, bar: Bar) -> None:
        self.count = 0
        self._bar = bar

    def advance(self, count: int) -> None:
        """`count` more bytes."""
        self.count += count
        self._bar.advance(count)


@click.command("put", short_help="Store files; prints the permanent link of each.")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, allow_dash=True))
@click.option("--ext", help="Extension of the link.  [default: the file's own]")
@click.option(
    "--wait",
    type=Seconds(),
    default=math.inf,
    help="Wait at most this long, as 5m.  [default: until it is stored]",
)
@click.option("--no-wait", is_flag=True, help="Return once it is accepted; prints the job.")
@click.option(
    "--parallel",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Files that are sent at a time.",
)
@json_option
@server_option
def command(
    files: tuple[str, ...],
    ext: str | None,
    wait: float,
    no_wait: bool,
    parallel: int,
    as_json: bool,
    client: Client,
) -> None:
    """Store each FILE (- is standard input) and print its permanent link.

    A link is printed once the file is stored: enough shards are on disk that it survives.

    \b
    Examples:
      zerostor put photo.jpg
      zerostor put *.jpg --json | jq -r .url
      tar c docs | zerostor put - --ext tar
      zerostor put film.mkv --no-wait     then: zerostor status JOB --wait 5m
    """
    extension = parse_extension(ext) if ext else None
    failed = False
    with transfer_bars(quiet=as_json) as bars, ThreadPoolExecutor(parallel) as pool:

        def one(file: str) -> dict[str, Any]:
            with click.open_file(file, "rb") as body:
                size = None if file == "-" else Path(file).stat().st_size
                bar = bars.bar(Path(file).name, size)
                chosen = extension_of(file) if extension is None else extension
                return _put(client, body, chosen, 0.0 if no_wait else wait, bar)

        futures = [(file, pool.submit(one, file)) for file in files]
        for file, future in futures:
            try:
                answer = future.result()
            except OSError as error:
                answer = {"state": "ERROR", "detail": error.strerror or str(error)}
            except ZerostorError as error:
                answer = {"state": "ERROR", "detail": str(error)}
            answer = {"file": file, **answer}
            failed |= answer["state"] == "ERROR" or (answer["state"] != "DONE" and not no_wait)
            if as_json:
                print_json(answer)
            else:
                _report(answer, no_wait=no_wait)
    if failed:
        raise click.exceptions.Exit(1)


def _put(client: Client, body: IO[bytes], ext: str, wait: float, bar: Bar) -> dict[str, Any]:
    counter = Counter(bar)
    start = time.monotonic()
    first = min(wait, STEP)
    bar.stage("sending")
    answer = client.upload(body, ext=ext, wait=first, advance=counter.advance)
    if "hash" in answer:
        answer |= {"state": "DONE"}
    elif wait <= 0:
        answer = {"job": answer.get("job"), "state": "ACTIVE"}
    else:
        bar.stage("storing")
        left = wait - (time.monotonic() - start)
        answer = follow(client, str(answer.get("job")), max(0.0, left))
    bar.stage("stored" if answer.get("state") == "DONE" else str(answer.get("state", "")).lower())
    if answer.get("state") == "DONE":
        answer["url"] = link_of(client, answer)
    return {**answer, "size": counter.count, "seconds": round(time.monotonic() - start, 3)}


def _report(answer: dict[str, Any], *, no_wait: bool) -> None:
    state, name = answer["state"], answer["file"]
    if state == "ERROR":
        click.echo(f"zerostor: {name}: {answer.get('detail')}", err=True)
    elif state == "DONE":
        speed = size_text(answer["size"] / max(answer["seconds"], 0.001))
        told = f"{size_text(answer['size'])} in {answer['seconds']:.2f} s, {speed}/s"
        click.echo(f"{name}: {told}", err=True)
        click.echo(answer["url"])
    elif no_wait:
        click.echo(answer["job"])
    else:
        reason = answer.get("detail") or "it goes on"
        click.echo(
            f"zerostor: {name}: not stored yet: {reason}; ask again with"
            f" `zerostor status {answer.get('job')} --wait 5m`",
            err=True,
        )
