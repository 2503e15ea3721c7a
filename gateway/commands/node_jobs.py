"""`zerostor node jobs`."""

from __future__ import annotations

from typing import Any

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import print_table, second
from gateway.http_client import Client
from zerostor.core.limits import LISTED, LISTED_MAX


@click.command("jobs", short_help="See what is done with chunks of telemetry.")
@click.option("--limit", type=click.IntRange(1, LISTED_MAX), default=LISTED, show_default=True,
              help="How many, the newest first.")
@json_option
@server_option
def command(limit: int, as_json: bool, client: Client) -> None:
    """Show what the hub does with chunks of telemetry now, and did last.

    writedfs puts a chunk on a node, replicatedfs puts it on another where a copy was lost, md5dfs
    looks whether a node still has it, deldfs takes it away.

    \b
    Examples:
      zerostor node jobs
      zerostor node jobs --json | jq '.ended[] | select(.good | not)'
    """
    answer = client.ask(f"/api/nodes/jobs?limit={limit}")
    if as_json:
        print_json(answer)
        return
    waiting = answer.get("waiting") or {}
    click.echo(f"{len(answer.get('running') or [])} run; waiting: " + ", ".join(
        f"{count} {task}" for task, count in waiting.items()), err=True)
    print_table(["when", "task", "node", "stream", "chunk", "result"],
                [_row(job) for job in [*(answer.get("running") or []),
                                       *(answer.get("ended") or [])]])


def _row(job: dict[str, Any]) -> list[object]:
    at = job.get("at")
    when = second(at) if at else "now"
    result = "runs" if not at else "good" if job.get("good") else "failed"
    return [when, job["task"], job["node"], job["stream"] or "(forgotten)", job["number"], result]
