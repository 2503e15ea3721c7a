"""`zerostor stores`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from gateway.commands.options import (
    json_option,
    print_json,
    read_settings,
    server_option,
    settings_options,
)
from gateway.commands.tables import print_line, print_table
from gateway.http_client import Client
from zerostor.core.errors import BadRequest
from zerostor.core.units import size_text


@click.group("stores", invoke_without_command=True, short_help="See the stores; start a new one.")
@json_option
@server_option
@click.pass_context
def command(ctx: click.Context, as_json: bool, client: Client) -> None:
    """Show each store: whether it is up, why not, and its room.

    \b
    Examples:
      zerostor stores
      zerostor stores init nas-1     start with an empty folder or namespace, on purpose
    """
    if ctx.invoked_subcommand is not None:
        return
    answer = client.ask("/api/stores", wait=30.0)
    if as_json:
        print_json(answer)
        return
    rows = [_row(store) for store in answer.get("stores") or []]
    print_table(["store", "pool", "state", "free", "total", "labels", "place", ""], rows)
    archive = _archive_line(answer.get("archive") or {})
    for line in filter(None, [archive, *_metadata_lines(answer.get("metadata") or {})]):
        print_line(line)


def _archive_line(state: dict[str, Any]) -> str:
    """How old the copy of the metadata in the pool is; nothing where another gateway knows."""
    kept, every = state.get("kept") or 0, state.get("every")
    age = f"{max(0, time.time() - kept):.0f} s ago" if kept else ""
    if state.get("problem"):
        return f"metadata: NOT kept in the pool since {age or 'the start'}: {state['problem']}"
    if every == 0:
        return "metadata: not kept in the pool (archive_every is 0)"
    return f"metadata: all in the pool {age}, every {every:g} s" if age else ""


def _metadata_lines(state: dict[str, Any]) -> list[str]:
    """How far behind whoever follows is; nothing of a master without slaves."""
    lines = []
    if state.get("role") == "slave":
        link = "following" if state.get("connected") else f"cut off ({state.get('problem')}) from"
        lines.append(f"metadata: slave {link} {state.get('master')}, {_behind(state)}")
    for slave in state.get("slaves") or []:
        name = slave.get("address") or slave.get("server")
        lines.append(f"metadata: slave {name} is {_behind(slave)}")
    if state.get("differs"):
        lines.append(f"metadata: NOT THE SAME as its master's: {state['differs']}")
    elif state.get("refuses") and state.get("role") == "master":
        lines.append(f"metadata: {state['refuses']}")
    if state.get("aside_files"):
        files = f"{state['aside_files']} file{'s' * (state['aside_files'] != 1)} aside-*"
        lines.append(f"metadata: {files} ({size_text(int(state['aside_bytes']))}) with what its"
                     " master never had: look whether uploads are missed, then remove them")
    return lines


def _behind(state: dict[str, Any]) -> str:
    entries = f"{state['behind_entries']} entries, " if "behind_entries" in state else ""
    size = size_text(int(state.get("behind_bytes") or 0))
    return f"{entries}{size}, {state.get('behind_seconds') or 0:.1f} s behind"


def _row(store: dict[str, Any]) -> list[object]:
    labels = store.get("labels") or {}
    return [
        store.get("name"),
        store.get("pool"),
        store.get("state"),
        *("" if store.get(key) is None else size_text(store[key]) for key in ("free", "total")),
        ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        store.get("url"),
        store.get("reason"),
    ]


@command.command("init", short_help="Start stores with an empty place.")
@click.argument("names", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All stores of the settings.")
@settings_options
def init(names: tuple[str, ...], every: bool, folder: Path | None, file: Path | None) -> None:
    """Make the folder or namespace of each store NAME, and mark it as that store's.

    zerostor writes only into places so marked: a disk that is not mounted looks like an empty
    folder, and must not be filled. So a store that lost its disk is started again by hand, here.

    A zdb:// store gets a namespace in user mode, if its password is that of the server's admin or
    the server has none; else this says what the admin has to do. A 0-db of the original project
    survives a power cut only if it was started with --sync.

    \b
    Examples:
      zerostor stores init 07              the disk of 07 was replaced
      zerostor stores init --all --config zerostor.toml
    """
    config = read_settings(folder, file)
    from zerostor.store_wiring import start_store

    if bool(names) == every:
        raise click.UsageError("name the stores, or give --all")
    stores = {store.name: store for store in config.store}
    for name in names:
        if name not in stores:
            raise BadRequest(f"the settings have no store named {name!r}")
    for name in stores if every else names:
        note = start_store(stores[name])
        click.echo(f"{name}: {stores[name].folder or stores[name].url} is ready")
        if note:
            click.echo(f"{name}: note: {note}")
