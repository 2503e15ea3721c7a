"""`zerostor ssh-process`."""

from __future__ import annotations

import math
from typing import Any

import click

from gateway.commands.options import Seconds, json_option, print_json, server_option
from gateway.commands.progress import Bar, transfer_bars
from gateway.commands.tables import print_line
from gateway.commands.waiting import follow, link_of
from gateway.http_client import Client


@click.command("ssh-process", short_help="Store a file or folder of an SSH home.")
@click.argument("user")
@click.argument("path")
@click.option("--remove", is_flag=True,
              help="Once it is stored, take away the files that are still as they were read.")
@click.option("--wait", type=Seconds(), default=math.inf,
              help="Wait at most this long, as 5m.  [default: until it is stored]")
@click.option("--no-wait", is_flag=True, help="Return once it is queued; prints the job.")
@json_option
@server_option
def command(user: str, path: str, remove: bool, wait: float, no_wait: bool, as_json: bool,
            client: Client) -> None:
    """Store PATH of USER's home: a file as it is, a folder as tar.gz. Prints the permanent link.

    \b
    Examples:
      zerostor ssh-process anna photos/cat.jpg
      zerostor ssh-process anna /photos --remove
      zerostor ssh-process anna /photos --no-wait     then: zerostor status JOB --wait 5m
    """
    if no_wait and wait != math.inf:
        raise click.UsageError("--wait and --no-wait exclude each other")
    answer = client.ask("/api/ssh/process", method="POST",
                        body={"user": user, "path": path, "remove": remove})
    job = str(answer.get("job"))
    if not no_wait:
        with transfer_bars(quiet=as_json) as bars:
            bar = bars.bar(path, None)
            answer = follow(client, job, wait, lambda status: _show(bar, status))
            bar.stage(str(answer.get("state", "")).lower())
    if answer.get("state") == "DONE":
        answer["url"] = link_of(client, answer)
    if as_json:
        print_json(answer)
    elif answer.get("state") == "DONE":
        print_line(answer["url"])
    elif no_wait:
        print_line(job)
    else:
        reason = answer.get("detail") or "it goes on"
        print_line(f"zerostor: {path}: not stored: {reason}" if answer.get("state") == "ERROR" else
                   f"zerostor: {path}: not stored yet: {reason}; ask again with"
                   f" `zerostor status {job} --wait 5m`", err=True)
    if not no_wait and answer.get("state") != "DONE":
        raise click.exceptions.Exit(1)


def _show(bar: Bar, status: dict[str, Any]) -> None:
    if status.get("state") == "WAITING":
        bar.waits(str(status.get("detail")))
    else:
        bar.stage(str(status.get("detail") or f"storing {float(status.get('progress') or 0):.0%}"))
