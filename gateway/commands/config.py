"""`zerostor config`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.commands.options import json_option, print_json, read_settings, settings_options

if TYPE_CHECKING:
    from zerostor.config import Config


@click.command("config", short_help="Show the effective settings, and try each store.")
@click.option("--no-probe", is_flag=True, help="Do not try the stores.")
@json_option
@settings_options
def command(no_probe: bool, as_json: bool, folder: Path | None, file: Path | None) -> None:
    """Show what is in force after file and environment, secrets masked, and try each store.

    Exit code 1 if a store does not serve.

    \b
    Examples:
      zerostor config
      ZEROSTOR_GATEWAY_MAX_UPLOAD=1GB zerostor config --json
    """
    from zerostor.config import effective

    config = read_settings(folder, file)
    settings = effective(config)
    problems = {} if no_probe else _problems(config)
    unmade = _unmade(config) & problems.keys()
    if as_json:
        told = problems | dict.fromkeys(unmade, "not made yet")
        tried = {name: text or "ok" for name, text in told.items()}
        extra = {} if no_probe else {"stores": tried}
        print_json({"source": str(config.source or ""), **settings, **extra})
    else:
        click.echo(f"# from {config.source or 'the defaults'}, and the environment")
        _print_settings(settings)
        for name in [name for name in problems if name not in unmade]:
            named = f"store {name}"
            text = problems[name] or "ok"
            click.echo(f"# {text}" if text.startswith(named) else f"# {named}: {text}")
        if unmade:
            click.echo(f"# {len(unmade)} stores are not made yet; `zerostor up` makes them")
    if any(text for name, text in problems.items() if name not in unmade):
        raise click.exceptions.Exit(1)


def _problems(config: Config) -> dict[str, str]:
    import asyncio

    from zerostor.store_wiring import try_stores

    return asyncio.run(try_stores(config))


def _unmade(config: Config) -> set[str]:
    """Default stores that the first `zerostor up` has yet to make."""
    if not config.own_stores or config.paths.stores_marker.exists():
        return set()
    return {store.name for store in config.store if not Path(store.folder).exists()}


def _print_settings(settings: dict[str, object]) -> None:
    """As TOML that could be a settings file (except for the paths, which follow from DATA)."""
    for section, table in settings.items():
        named = table if isinstance(table, dict) else {}
        if section == "policy":
            for name, policy in named.items():
                _print_table(f"[policy.{name}]", policy)
        elif isinstance(table, list):
            for store in table:
                _print_table(f"[[{section}]]", store)
        else:
            _print_table(f"[{section}]", named, comment=section == "paths")


def _print_table(head: str, table: dict[str, object], *, comment: bool = False) -> None:
    mark = "# " if comment else ""
    click.echo(f"{mark}{head}")
    for key, value in table.items():
        if isinstance(value, dict):
            inside = ", ".join(f"{name} = {json.dumps(text)}" for name, text in value.items())
            click.echo(f"{mark}{key} = {{ {inside} }}")
        else:
            click.echo(f"{mark}{key} = {json.dumps(value, ensure_ascii=False)}")
    click.echo()
