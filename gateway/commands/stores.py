"""`zerostor stores`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

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
from gateway.plain_text import plain
from zerostor.core.errors import BadRequest, WrongState
from zerostor.core.units import seconds_text, size_text

_F = TypeVar("_F", bound=Callable[..., Any])
POLL_SECONDS = 1.0


@click.group("stores", invoke_without_command=True, short_help="See the stores; start a new one.")
@json_option
@server_option
@click.pass_context
def command(ctx: click.Context, as_json: bool, client: Client) -> None:
    """Show each store: how it is, its room, how quickly it answers, what lies there.

    \b
    Examples:
      zerostor stores
      zerostor stores add nas-3 dir:///mnt/nas3 --label host=nas3
      zerostor stores drain nas-1 --wait           until it may be unplugged
      zerostor stores replace 07 new-07 dir:///mnt/new07 --wait
      zerostor stores remove 07 --lost             its disk is dead: rebuild what was there
      zerostor stores init nas-1                   start again with an empty place, on purpose
    """
    if ctx.invoked_subcommand is not None:
        return
    answer = client.ask("/api/stores", wait=30.0)
    if as_json:
        print_json(answer)
        return
    rows = [_row(store) for store in answer.get("stores") or []]
    print_table(["store", "pool", "state", "used", "free", "total", "shards", "p50", "p99",
                 "errors", "labels", "place", ""], rows)
    for line in _keeping_lines(answer):
        print_line(line)
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
    total, free = store.get("total"), store.get("free")
    used = total - free if isinstance(total, int) and isinstance(free, int) else None
    reads, writes = store.get("read") or {}, store.get("write") or {}
    return [
        store.get("name"),
        store.get("pool"),
        store.get("condition") or store.get("state"),
        *("" if size is None else size_text(size) for size in (used, free, total)),
        store.get("shards"),
        *(_quickness(reads.get(rank), writes.get(rank)) for rank in ("p50", "p99")),
        store.get("errors") or "",
        ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        store.get("url"),
        _emptying(store.get("drain")) or store.get("reason"),
    ]


def _quickness(read: object, write: object) -> str:
    """Of reads and of writes; nothing of a store that was not asked of late."""
    found = [f"{float(each) * 1000:.3g}" if isinstance(each, int | float) and each else "-"
             for each in (read, write)]
    return "" if found == ["-", "-"] else f"{'/'.join(found)} ms"


def _emptying(drain: dict[str, Any] | None) -> str:
    """How emptying a store goes, in a line."""
    if drain is None:
        return ""
    if drain.get("empty"):
        return "empty: it may be unplugged"
    parts = [f"{drain.get('shards')} shards to move"]
    if drain.get("eta"):
        parts.append(f"{seconds_text(max(1.0, float(drain['eta'])))} left")
    if drain.get("waiting"):
        parts.append(f"{drain['waiting']} of them still written to")
    if drain.get("rebuilding"):
        parts.append(f"{drain['rebuilding']} are made again")
    return ", ".join([*parts, *filter(None, [drain.get("problem")])])


def _keeping_lines(answer: dict[str, Any]) -> Iterator[str]:
    """What may be lost, and what is done about stores."""
    for each in answer.get("durability") or []:
        domains, most, losses = each.get("domains"), each.get("most"), each.get("losses")
        yield (f"durability: policy {each.get('policy')} over {domains} host{'s' * (domains != 1)}"
               f" with up to {most} shard{'s' * (most != 1)} of an object each: about"
               f" {each.get('nines')} nines a year (a host lost with 0.5% a year, 7 days to"
               " rebuild, nothing else going wrong)")
        if each.get("crowded"):
            yield (f"durability: WARNING: {losses} lost host{'s' * (losses != 1)} may take objects"
                   " along; name what is lost together with --label host=..., and spread it")
    if answer.get("unwritten"):
        yield f"{answer['unwritten']} shards wait for a store that takes them"
    even = answer.get("rebalance") or {}
    if even.get("running"):
        yield f"rebalance: {size_text(int(even.get('bytes') or 0))} to move"


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


def _add_options(function: _F) -> _F:
    """What a store that is added may have."""
    function = click.option("--pool", default="main", show_default=True, help="Its pool.")(function)
    function = click.option("--password-file", type=click.Path(path_type=Path), default=None,
                            help="With the password of its 0-db, in DATA/passwords; the same path"
                            " on each host."
                            )(function)
    return click.option("--label", "labels", multiple=True, metavar="NAME=TEXT",
                        help="host=..., site=..., owner=...: what is lost together.")(function)


def _added(name: str, url: str, pool: str, labels: tuple[str, ...],
           password_file: Path | None) -> dict[str, object]:
    """The body of a request."""
    named = dict(label.partition("=")[::2] for label in labels)
    if any("=" not in label for label in labels):
        raise click.UsageError("write a label as NAME=TEXT")
    if "://" not in url:
        url = f"dir://{url if url.startswith('/') else Path(url).absolute()}"
    told: dict[str, object] = {"name": name, "url": url, "pool": pool, "labels": named}
    if password_file is not None:
        told["password_file"] = str(password_file.absolute())
    return told


def _print_said(answer: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    print_line(text)
    if answer.get("note"):
        print_line(f"note: {answer['note']}")


_wait_option = click.option("--wait", is_flag=True, help="Until it is done, with progress.")


@command.command("add", short_help="Add a store, while everything runs.")
@click.argument("name")
@click.argument("url")
@_add_options
@json_option
@server_option
def add(name: str, url: str, pool: str, labels: tuple[str, ...], password_file: Path | None,
        as_json: bool, client: Client) -> None:
    """Add the store NAME at URL: a folder, dir:///FOLDER, or a namespace, zdb://HOST:PORT/NAME.

    Its folder or namespace is made and marked. All processes of all hosts use it within seconds,
    and it is remembered in DATA/stores.json; what is there already moves with `rebalance`.

    \b
    Examples:
      zerostor stores add nas-3 /mnt/nas3 --label host=nas3
      zerostor stores add far-1 zdb://10.0.0.9:9900/far1 --password-file
          data/passwords/far1
    """
    answer = client.ask("/api/stores", method="POST", wait=60.0,
                        body=_added(name, url, pool, labels, password_file))
    _print_said(answer, f"{name} is there; `zerostor stores rebalance` fills all alike",
                as_json=as_json)


@command.command("drain", short_help="Empty a store, so that it may be unplugged.")
@click.argument("name")
@_wait_option
@json_option
@server_option
def drain(name: str, wait: bool, as_json: bool, client: Client) -> None:
    """Have the store NAME emptied: nothing new goes there, and what is there goes to others.

    It serves meanwhile. It may be unplugged when this says so; then `zerostor stores remove` it.

    \b
    Example:
      zerostor stores drain nas-1 --wait
    """
    answer = client.ask(_of(name, "drain"), method="POST", body={}, wait=60.0)
    if wait:
        answer = _follow(client, name)
    _print_said(answer, f"{name} is empty and may be unplugged" if wait else
                f"{name} is being emptied; `zerostor stores` shows how it goes", as_json=as_json)


@command.command("undrain", short_help="Keep a store that is being emptied.")
@click.argument("name")
@json_option
@server_option
def undrain(name: str, as_json: bool, client: Client) -> None:
    """Have the store NAME get shards again, with those that are left on it.

    \b
    Example:
      zerostor stores undrain nas-1
    """
    answer = client.ask(_of(name, "undrain"), method="POST", body={})
    _print_said(answer, f"{name} is in use as before", as_json=as_json)


@command.command("remove", short_help="Remove a store that is empty, or lost.")
@click.argument("name")
@click.option("--lost", is_flag=True, help="What is there is given up, and rebuilt on others.")
@json_option
@server_option
def remove(name: str, lost: bool, as_json: bool, client: Client) -> None:
    """Forget the store NAME. Refused while records name it, unless it is --lost.

    \b
    Examples:
      zerostor stores remove nas-1           after it was drained
      zerostor stores remove nas-1 --lost    its disk is dead
    """
    answer = client.ask(_of(name, "remove"), method="POST", body={"lost": lost}, wait=600.0)
    _print_said(answer, f"{name} is removed" + ("; what was there is rebuilt" if lost else ""),
                as_json=as_json)


@command.command("replace", short_help="Put a new store in the place of another.")
@click.argument("old")
@click.argument("name")
@click.argument("url")
@_wait_option
@_add_options
@json_option
@server_option
def replace(old: str, name: str, url: str, wait: bool, pool: str, labels: tuple[str, ...],
            password_file: Path | None, as_json: bool, client: Client) -> None:
    """Add the store NAME at URL, empty OLD into it, and remove OLD when it is empty.

    Where OLD is dead, what was on it is rebuilt.

    \b
    Example:
      zerostor stores replace 07 new-07 /mnt/new07 --wait
    """
    answer = client.ask(_of(old, "replace"), method="POST", wait=60.0,
                        body=_added(name, url, pool, labels, password_file))
    if wait:
        answer = _follow(client, old, gone=True)
    _print_said(answer, f"{name} has taken the place of {old}" if wait else
                f"{old} is being emptied into {name}", as_json=as_json)


@command.command("rebalance", short_help="Fill all stores alike.")
@_wait_option
@json_option
@server_option
def rebalance(wait: bool, as_json: bool, client: Client) -> None:
    """Have shards move from the fullest stores to the emptiest, within a few per cent.

    \b
    Example:
      zerostor stores rebalance --wait
    """
    answer = client.ask("/api/stores/rebalance", method="POST", body={})
    while wait:
        time.sleep(POLL_SECONDS)
        found = client.ask("/api/stores", wait=30.0)
        even = found.get("rebalance") or {}
        _show(f"{size_text(int(even.get('bytes') or 0))} to move, {even.get('moved') or 0} shards"
              " moved")
        if found.get("rebalance_done"):
            _show("")
            break
    _print_said(answer, "all stores hold their part" if wait else "it is done by and by",
                as_json=as_json)


def _of(name: str, verb: str) -> str:
    return f"/api/stores/{quote(name, safe='')}/{verb}"


def _follow(client: Client, name: str, *, gone: bool = False) -> dict[str, Any]:
    """Wait until a store that drains is empty; gone: until it is removed, too."""
    while True:
        stores = {each.get("name"): each
                  for each in client.ask("/api/stores", wait=30.0).get("stores") or []}
        found = stores.get(name)
        if found is None or (not gone and (found.get("drain") or {}).get("empty")):
            _show("")
            return {"name": name, "store": "removed" if found is None else "empty", "note": ""}
        if found.get("condition") not in ("draining", "down"):
            _show("")
            raise WrongState(f"{name} is not being emptied any more")
        _show(_emptying(found.get("drain")) or "waiting for the keeper")
        time.sleep(POLL_SECONDS)


def _show(text: str) -> None:
    """A line of progress in place of the one before, on a terminal."""
    if sys.stderr.isatty():
        click.echo("\r\x1b[K" + plain(text), nl=False, err=True)
