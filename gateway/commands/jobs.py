"""`zerostor jobs`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import print_line, print_table
from gateway.http_client import Client
from zerostor.core.units import seconds_text


@click.command("jobs", short_help="See what waits, runs and failed; requeue what failed.")
@click.option("--requeue", metavar="JOB", help="Give a failed job a fresh start.")
@json_option
@server_option
def command(requeue: str | None, as_json: bool, client: Client) -> None:
    """Show the work that waits, the workers that are alive, and the jobs that failed for good.

    The bytes of a failed job are kept until it is requeued and stored.

    \b
    Examples:
      zerostor jobs
      zerostor jobs --requeue 0d3f...
    """
    if requeue is not None:
        answer = client.ask(f"/api/jobs/{quote(requeue, safe='')}/requeue", method="POST")
        if as_json:
            print_json(answer)
        else:
            print_line(f"{requeue} is queued again; see `zerostor status {requeue} --wait 5m`")
        return
    answer = client.ask("/api/jobs")
    if as_json:
        print_json(answer)
    else:
        _show(answer)


def _show(answer: dict[str, Any]) -> None:
    counts = ", ".join(
        f"{answer.get(name, 0)} {name}" for name in ("waiting", "running", "delayed")
    )
    oldest = float(answer.get("oldest") or 0)
    print_line(counts + (f", the oldest for {seconds_text(oldest)}" if oldest else ""))
    workers = [str(worker) for worker in answer.get("workers") or []]
    print_line(f"workers: {', '.join(workers) or 'none is alive'}")
    failed = answer.get("failed") or []
    if failed:
        print_line(f"{len(failed)} failed:")
    print_table(["job", "reason"], [[job.get("job"), job.get("detail")] for job in failed])
