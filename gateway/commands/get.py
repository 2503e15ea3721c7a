"""`zerostor get`."""

from __future__ import annotations

import http.client
import time
from pathlib import Path

import click

from gateway.commands.destination import Destination, destination, place_of
from gateway.commands.links import read_link
from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.progress import Bar, transfer_bars
from gateway.http_client import BLOCK, Client
from zerostor.core.errors import DataError
from zerostor.core.link import PRIVATE_HEADER, Hash
from zerostor.core.units import size_text


@click.command("get", short_help="Fetch a file by its link, verified.")
@click.argument("link")
@click.option("-o", "--output", metavar="FILE", help="Where to; - is stdout.  [default: HASH.ext]")
@json_option
@server_option
def command(link: str, output: str | None, as_json: bool, client: Client) -> None:
    """Fetch LINK (a HASH, a HASH.ext or a full address) and check every byte against its hash.

    The file appears under its name only when it is whole and right. Into a folder it goes by the
    link's name. A private file can be checked by its gateway alone, which does so.

    \b
    Examples:
      zerostor get http://127.0.0.1:8080/1f0c...00000007.jpg
      zerostor get 1f0c...00000007.jpg -o photo.jpg
      zerostor get 1f0c...00000007.tar -o - | tar x
    """
    client, parsed, name = read_link(link, client)
    target = place_of(output, name)
    start = time.monotonic()
    quiet = as_json or target == "-"
    # The destination first: what cannot be written need not be fetched.
    with (
        transfer_bars(quiet=quiet) as bars,
        destination(target) as file,
        client.open(f"/{name}", elsewhere=True) as response,
    ):
        bar = bars.bar(Path(target).name, response.length)
        private = PRIVATE_HEADER in response.headers
        size = _receive(response, file, None if private else parsed, bar)
    seconds = time.monotonic() - start
    if as_json and target != "-":
        print_json(
            {"file": target, "hash": str(parsed), "size": size, "seconds": round(seconds, 3),
             "private": private}
        )
    elif target != "-":
        speed = size_text(size / max(seconds, 0.001))
        checked = "private: verified by the gateway" if private else "verified"
        click.echo(f"{size_text(size)} in {seconds:.2f} s, {speed}/s, {checked}", err=True)
        click.echo(target)


def _receive(
    response: http.client.HTTPResponse, file: Destination, parsed: Hash | None, bar: Bar
) -> int:
    """Copy the body; its size. Raises DataError unless all of it came and fits the hash.

    parsed: None for a private object, whose hash can be computed by its gateway alone.
    """
    from zerostor.core.checksum import ContentHasher

    hasher = ContentHasher()
    block = memoryview(bytearray(BLOCK))
    expected, size = response.length, 0
    while count := response.readinto(block):
        hasher.update(block[:count])
        file.write(block[:count])
        size += count
        bar.advance(count)
    if expected is not None and size < expected:
        raise DataError(f"the connection broke off after {size} of {expected} bytes; nothing kept")
    if parsed is not None and hasher.digest() != parsed.content:
        raise DataError("what arrived is not what the link names; nothing kept")
    return size
