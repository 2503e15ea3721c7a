"""`zerostor node verify`."""

from __future__ import annotations

from typing import Any

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import print_line
from gateway.http_client import Client, Refused

LONG = 600.0
"""Seconds that a flash may take for one request."""


@click.command("verify", short_help="Look whether a node still has its chunks, whole.")
@click.argument("name")
@json_option
@server_option
@click.pass_context
def command(ctx: click.Context, name: str, as_json: bool, client: Client) -> None:
    """Read every chunk of the connected node NAME, and have it prove that it keeps just that.

    Exit code 1 if any is damaged.

    \b
    Example:
      zerostor node verify shed-1
    """
    good = 0
    after: str | None = ""
    bad: list[dict[str, Any]] = []
    while after is not None:
        answer = client.ask("/api/nodes/verify", method="POST", wait=LONG,
                            body={"name": name, "after": after})
        good += int(answer.get("good") or 0)
        bad += answer.get("bad") or []
        last, after = after, answer.get("after")
        if after is not None and after <= last:
            raise Refused(200, "", "the gateway names the same chunks again and again")
    if as_json:
        print_json({"name": name, "good": good, "bad": bad})
    else:
        print_line(f"{name}: {good} chunks are whole, {len(bad)} are not")
        for one in bad:
            print_line(f"  {one['chunk']}  {one['reason']}")
    ctx.exit(1 if bad else 0)
