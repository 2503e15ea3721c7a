"""`zerostor bench`."""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gateway.bench.works import Row


@click.command("bench", short_help="Measure this machine, with floors beside every figure.")
@click.option("--data", "folder", type=click.Path(path_type=Path), default=None,
              help="Measure on the disk of this folder. Default: the folder for temporary files.")
@click.option("--rounds", default=5, show_default=True, help="Repetitions of each large work.")
@click.option("--quick", is_flag=True, help="A tenth of the small objects and two rounds.")
@click.option("--only", default="", help="Only works whose name contains this.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per row on stdout.")
def command(folder: Path | None, rounds: int, quick: bool, only: str, as_json: bool) -> None:
    """Start a zerostor of its own in an empty folder, use it hard, print what it did.

    Each figure stands beside a floor taken in the same run: the same bytes written and fsynced
    plainly, or sent and received by an aiohttp server that does nothing with them. On a busy or a
    small machine both get slower, and the ratio stays.

    \b
    Examples:
      zerostor bench
      zerostor bench --quick --data /srv
      zerostor bench --json > today.json
    """
    import asyncio

    import uvloop

    place = Path(tempfile.mkdtemp(prefix="zerostor-bench-", dir=folder))
    rows: list[Row] = []
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_measure(place, 2 if quick else rounds, 0.1 if quick else 1.0, only, rows,
                                as_json))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if not as_json:
        _table(rows)


async def _measure(place: Path, rounds: int, scale: float, only: str, rows: list[Row],
                   as_json: bool) -> None:
    from gateway.bench.crowd import CrowdSuite
    from gateway.bench.doors import DoorSuite
    from gateway.bench.frozen import FrozenSuite
    from gateway.bench.healing import HealingSuite
    from gateway.bench.machine import free_address, running, up_command
    from gateway.bench.metadata import MetadataSuite
    from gateway.bench.misses import MissSuite
    from gateway.bench.nodes import NodeSuite
    from gateway.bench.recovery import RecoverySuite
    from gateway.bench.ssh import SshSuite
    from gateway.bench.suite import Suite
    from gateway.bench.works import Bench

    listen, plain = free_address(), free_address()
    sink = [sys.executable, "-m", "gateway.bench.floors", str(plain.port)]
    with contextlib.ExitStack() as stack:
        began = time.perf_counter()
        up = stack.enter_context(
            running(up_command(place / "data", listen), f"http://{listen}/readyz"))
        ready = time.perf_counter() - began
        sink_pid = stack.enter_context(running(sink, f"http://{plain}/source/1"))
        bench = Bench(listen, plain, up, sink_pid, place / "data", ready)

        def unplug(count: int) -> None:
            for number in range(count):
                shutil.rmtree(place / "data" / "stores" / f"{5 * number:02d}")

        more = (MetadataSuite(place, rounds, scale).steps() | RecoverySuite(place, scale).steps()
                | SshSuite(place, rounds, scale).steps() | NodeSuite(place, scale).steps()
                | MissSuite(bench, scale).steps() | DoorSuite(bench, scale).steps()
                | CrowdSuite(bench, scale).steps() | FrozenSuite(place, scale).steps()
                | HealingSuite(place, scale).steps())
        async for row in Suite(bench, more, rounds, scale, only, unplug=unplug).rows():
            rows.append(row)
            if as_json:
                click.echo(json.dumps(_plain(row)))
            else:
                click.echo(f"{row.work}: {row.value:.4g} {row.unit}", err=True)


def _plain(row: Row) -> dict[str, object]:
    return vars(row) | {"ratio": row.ratio, "machine": platform.machine(),
                        "python": platform.python_version()}


def _table(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("work", "zerostor", "floor, same run", "ratio", "target", "p50 / p99 ms",
                  "CPU s/GB", "more", title="zerostor bench")
    for row in rows:
        latency = f"{row.p50_ms:.1f} / {row.p99_ms:.1f}" if row.p50_ms and row.p99_ms else ""
        table.add_row(
            row.work, f"{row.value:,.4g} {row.unit}",
            f"{row.floor:,.4g} ({row.floor_name})" if row.floor else "",
            f"{row.ratio:.2f}" if row.ratio is not None else "",
            f"{row.target:.2f}" if row.target else "", latency,
            f"{row.cpu_s_per_gb:.2f}" if row.cpu_s_per_gb else "",
            ", ".join(f"{name} {value:,.4g}" for name, value in row.notes.items()))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
