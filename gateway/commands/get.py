"""`zerostor get`."""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from gateway.commands.links import read_link
from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.progress import Bar, transfer_bars
from gateway.http_client import BLOCK, Client
from zerostor.core.errors import DataError
from zerostor.core.link import Hash
from zerostor.core.units import size_text


@click.command("get", short_help="Fetch a file by its link, verified.")
@click.argument("link")
@click.option("-o", "--output", metavar="FILE", help="Where to; - is stdout.  [default: HASH.ext]")
@json_option
@server_option
def command(link: str, output: str | None, as_json: bool, client: Client) -> None:
    """Fetch LINK (a HASH, a HASH.ext or a full address) and check every byte against its hash.

    The file appears under its name only when it is whole and right.

    \b
    Examples:
      zerostor get http://127.0.0.1:8080/1f0c...00000007.jpg
      zerostor get 1f0c...00000007.jpg -o photo.jpg
      zerostor get 1f0c...00000007.tar -o - | tar x
    """
    client, parsed, name = read_link(link, client)
    target = output or name
    start = time.monotonic()
    quiet = as_json or target == "-"
    with transfer_bars(quiet=quiet) as bars, client.open(f"/{name}") as response:
        bar = bars.bar(name if output is None else Path(target).name, response.length)
        with _destination(target) as file:
            size = _receive(response, file, parsed, bar)
    seconds = time.monotonic() - start
    if as_json and target != "-":
        print_json(
            {"file": target, "hash": str(parsed), "size": size, "seconds": round(seconds, 3)}
        )
    elif target != "-":
        speed = size_text(size / max(seconds, 0.001))
        click.echo(f"{size_text(size)} in {seconds:.2f} s, {speed}/s, verified", err=True)
        click.echo(target)


@contextlib.contextmanager
def _destination(target: str) -> Iterator[BinaryIO]:
    """Standard output, or a file beside the target that takes its name when the block ends well."""
    if target == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    aside = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.part")
    file = open(aside, "xb", buffering=0)  # noqa: SIM115
    try:
        with file:
            yield file
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def _receive(response: http.client.HTTPResponse, file: BinaryIO, parsed: Hash, bar: Bar) -> int:
    """Copy the body; its size. Raises DataError unless all of it came and fits the hash."""
    from zerostor.core.checksum import ContentHasher

    hasher = ContentHasher()
    block = memoryview(bytearray(BLOCK))
    expected, size = response.length, 0
    while count := response.readinto(block):
        hasher.update(block[:count])
        written = 0
        while written < count:
            written += file.write(block[written:count])
        size += count
        bar.advance(count)
    if expected is not None and size < expected:
        raise DataError(f"the connection broke off after {size} of {expected} bytes; nothing kept")
    if hasher.digest() != parsed.content:
        raise DataError("what arrived is not what the link names; nothing kept")
    return size
