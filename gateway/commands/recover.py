"""`zerostor recover`."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.commands.options import json_option, print_json, read_settings, settings_options
from zerostor.core.errors import BadRequest, SetupError
from zerostor.core.units import date_text

if TYPE_CHECKING:
    from zerostor.config import Config
    from zerostor.core.settings import StoreSettings
    from zerostor.engine.recovered import Summary

SHOWN = 20
"""Names of each kind that are printed; --json has more."""
GARBAGE_AFTER = 100_000
"""Values made between two looks for cycles."""


@click.command("recover", short_help="Make lost metadata again from the stores alone.")
@click.argument("more", nargs=-1, metavar="[PLACE]...")
@click.option("--stores", "places", multiple=True, metavar="PLACE...",
              help="Folders or zdb:// addresses of the stores; default: those of the settings.")
@settings_options
@click.option("--trust", metavar="KEY", help="The key whose index to believe, 64 hex digits.")
@click.option("--verify", is_flag=True, help="Read every object and check its hash as well.")
@click.option("--dry-run", is_flag=True, help="Only look: write nothing, nowhere.")
@json_option
def command(more: tuple[str, ...], places: tuple[str, ...], folder: Path | None, file: Path | None,
            trust: str | None, verify: bool, dry_run: bool, as_json: bool) -> None:
    """Make the metadata again from the stores alone, on a machine that has none.

    The metadata log comes back from its copies in the pool, and what is younger from the shards
    themselves. Every link works again. Stop all gateways and workers of these stores first.
    Exit code 0: all is back; 1: something is missing.

    \b
    Examples:
      zerostor recover --stores /mnt/disk*/zerostor --data /srv/zerostor
      zerostor recover --data /srv/zerostor        the stores that its settings name
      zerostor recover --stores /mnt/* --dry-run   see what would come back
    """
    if more and not places:
        raise click.UsageError("name the places of the stores behind --stores")
    config = read_settings(folder, file)
    stores = _named((*places, *more), config) if places else list(config.store)
    began = time.monotonic()
    import asyncio

    summary = asyncio.run(_recover(config, stores, _key(trust), bool(places), verify, dry_run))
    absent = _absent(config, stores, summary)
    if as_json:
        print_json({**_as_dict(summary), "stores_not_given": absent})
    else:
        _print(summary, absent, config, dry_run, time.monotonic() - began)
    if not summary.complete:
        raise click.exceptions.Exit(1)


def _key(text: str | None) -> bytes | None:
    if text is None:
        return None
    if re.fullmatch(r"[0-9a-fA-F]{64}", text) is None:
        raise BadRequest("--trust takes a key of 64 hex digits")
    return bytes.fromhex(text)


def _named(places: Sequence[str], config: Config) -> list[StoreSettings]:
    """The stores at these places, by the names in their markers; the rest as the settings say."""
    from zerostor.core.setting_types import Secret
    from zerostor.core.settings import StoreSettings, split_password
    from zerostor.core.store_settings import check_stores
    from zerostor.store_wiring import store_name

    known = {store.name: store for store in config.store} if config.source else {}
    found: list[StoreSettings] = []
    taken: dict[str, str] = {}
    for place in places:
        url, password = split_password(place)
        if "://" not in url:
            url = f"dir://{os.path.abspath(place)}"
        settings = StoreSettings("", url, password=Secret(password))
        try:
            name = store_name(settings)
        except SetupError as error:
            click.echo(f"left out: {error}", err=True)
            continue
        if taken.get(name) == url:
            continue
        if taken.setdefault(name, url) != url:
            raise BadRequest(f"{taken[name]} and {url} are both store {name}, the same or a copy"
                             " of it: leave one of them out")
        like = known.get(name, settings)
        found.append(StoreSettings(
            name, url, like.pool, like.labels, "" if password else like.password_file,
            Secret(password) if password else like.password))
    if not found:
        raise BadRequest("none of these places is a store")
    try:
        check_stores(found)
    except SetupError as error:
        raise BadRequest(str(error)) from error
    return found


async def _recover(config: Config, stores: list[StoreSettings], trusted: bytes | None,
                   given: bool, verify: bool, dry_run: bool) -> Summary:
    import gc

    from gateway.commands.folder import make_folders, only_one
    from zerostor import wiring

    # Of millions of small values none is in a cycle, and looking for one took a tenth of the time.
    gc.set_threshold(GARBAGE_AFTER)
    if dry_run:
        with tempfile.TemporaryDirectory() as aside:
            return await wiring.recover(stores, Path(aside) / "metadata", None, trusted,
                                        _Screen().show, verify=verify)
    make_folders(config.paths)
    with only_one(config.paths):
        def settle(summary: Summary) -> None:
            _write_settings(config, stores, given, summary)

        return await wiring.recover(stores, config.paths.metadata, config, trusted,
                                    _Screen().show, verify=verify, settle=settle)


def _absent(config: Config, stores: list[StoreSettings], summary: Summary) -> list[str]:
    """Names of stores that were forgotten, or are lost; made up where no record has them."""
    from gateway.commands.recovered_settings import absent_stores, policies_seen

    seen = policies_seen(summary.policies, summary.private)
    return [store.name for store in absent_stores(
        stores, list(summary.stores), seen, config.paths.root)] if seen else []


class _Screen:
    """One line on a terminal that says how far it is."""

    def __init__(self) -> None:
        self._next = 0.0
        self._shown = sys.stderr.isatty()

    def show(self, what: str, done: int, total: int | None) -> None:
        """Ten times a second at most."""
        now = time.monotonic()
        if self._shown and now >= self._next:
            self._next = now + 0.1
            of = "" if total is None else f" of {total:,}"
            click.echo(f"\r\x1b[K{what}: {done:,}{of}", nl=False, err=True)


def _write_settings(config: Config, stores: list[StoreSettings], given: bool,
                    summary: Summary) -> None:
    """DATA/zerostor.toml, where there is none and the settings would not find these stores."""
    from gateway.commands.recovered_settings import absent_stores, policies_seen, settings_text
    from zerostor.config import FILE_NAME

    target = config.paths.root / FILE_NAME
    known = {(store.name, *store.place) for store in config.store}
    if not given or {(store.name, *store.place) for store in stores} <= known:
        if config.own_stores:
            config.paths.stores.mkdir(mode=0o700, exist_ok=True)
            config.paths.stores_marker.touch()
        if target.exists() or config.source is None:
            return
    elif target.exists():
        click.echo(f"{target} is left as it is: bring its [[store]] tables up to date", err=True)
        return
    kept = config.source.read_text(encoding="utf-8-sig") if config.source else ""
    policies = dict(config.policy) if config.source else policies_seen(
        summary.policies, summary.private)
    stores = [_with_password_file(store, config.paths.root) for store in stores]
    absent = absent_stores(stores, list(summary.stores), policies, config.paths.root)
    if absent and given:
        names = ", ".join(store.name for store in absent[:SHOWN])
        click.echo(f"{len(absent)} of {len(stores) + len(absent)} stores were not given ({names}):"
                   f" say in {target} where they are, or begin empty ones with `zerostor stores"
                   " init`", err=True)
    # Aside first: the next run would take half of it for the settings.
    aside = target.with_name(f".{target.name}.aside")
    aside.write_text(kept if not given else settings_text(kept, stores, absent, policies),
                     encoding="utf-8")
    aside.replace(target)


def _with_password_file(store: StoreSettings, root: Path) -> StoreSettings:
    import msgspec

    if not store.password or store.password_file:
        return store
    path = root / f"store-{store.name}.password"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as opened:
        opened.write(store.password.reveal() + "\n")
    return msgspec.structs.replace(store, password_file=str(path))


def _as_dict(summary: Summary) -> dict[str, Any]:
    findings, index = summary.findings, summary.index
    named = {"missing": summary.missing, "lost_links": summary.lost,
             "writes_cut_off": summary.abandoned,
             "containers_broken": summary.broken, "shards_damaged": findings.damaged,
             "shards_unread": findings.unread, "shards_odd": findings.odd,
             "strangers": findings.strangers}
    return {
        "complete": summary.complete,
        "index": None if index is None else {
            "sequence": index.sequence, "epoch": index.epoch, "key": summary.signer.hex(),
            "created_ms": index.created_ms},
        "index_copies_refused": [row._asdict() for row in summary.refused],
        "containers": summary.containers,
        "objects_from_log": summary.in_log["objects"],
        "objects_from_shards": summary.salvaged["objects"],
        "shards": findings.shards, "stores_unlisted": findings.unlisted,
        "ids_damaged": summary.damaged_ids, "ids_not_believed": summary.unbelievable,
        "verified": summary.verified,
        "next_id": summary.next_id, "epoch": summary.epoch,
        **{name: {"count": names.count, "first": names.first} for name, names in named.items()},
    }


def _print(summary: Summary, absent: list[str], config: Config, dry_run: bool,
           seconds: float) -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
    _print_found(summary, seconds)
    if absent:
        click.echo(f"{len(absent):,} stores fewer were given than objects were written to"
                   f" ({', '.join(absent[:SHOWN])})")
    _print_names(summary)
    if dry_run:
        click.echo("nothing was written")
    else:
        from zerostor.wiring import identity

        key = identity(config).public_key.hex()
        click.echo(f"this zerostor signs with key {key}")
        click.echo(f"the metadata is in {config.paths.metadata}; start with:"
                   f" zerostor up --data {config.paths.root}")


def _print_found(summary: Summary, seconds: float) -> None:
    findings, index = summary.findings, summary.index
    if index is None:
        click.echo("no container index was found: all comes from the shards")
    else:
        made = date_text(index.created_ms / 1000)
        click.echo(f"container index {index.sequence} of {made}, signed by {summary.signer.hex()}")
    for place, reason in summary.refused:
        click.echo(f"  a copy on {place} was refused: {reason}")
    from_log, from_shards = summary.in_log["objects"], summary.salvaged["objects"]
    click.echo(f"{from_log + from_shards:,} objects: {from_log:,} from {summary.containers}"
               f" parts of the log, {from_shards:,} from the shards ({findings.shards:,} of them),"
               f" in {seconds:.1f} s")
    if summary.verified:
        click.echo(f"{summary.verified:,} objects were read and held against their hashes")
    for store, reason in sorted(findings.unlisted.items()):
        click.echo(f"store {store} cannot be listed: {reason}")
    if summary.unsure:
        click.echo("that is more stores than may be lost: there may be objects that nothing"
                   " above knows of")


def _print_names(summary: Summary) -> None:
    """What is missing or odd, the first ones by name."""
    findings = summary.findings
    for what, names in (
        ("parts of the log are lost", summary.broken), ("objects are missing", summary.missing),
        ("writes were cut off a day or more before the log ended, and nobody has a link to them",
         summary.abandoned),
        ("links gave their id to another object", summary.lost),
        ("shards are damaged", findings.damaged), ("shards could not be read", findings.unread),
        ("stripe sets have shards that contradict the others", findings.odd),
        ("names on the stores are not ours", findings.strangers),
    ):
        if names.count:
            click.echo(f"{names.count:,} {what}:")
            for name in names.first[:SHOWN]:
                click.echo(f"  {name}")
        if names.count > SHOWN:
            click.echo(f"  and {names.count - SHOWN:,} more (--json names up to 1,000)")
    if summary.damaged_ids:
        click.echo(f"{summary.damaged_ids:,} ids have no record that can be read")
    if summary.unbelievable:
        click.echo(f"{summary.unbelievable:,} ids that shards name are far above all others, and"
                   " are not believed")
