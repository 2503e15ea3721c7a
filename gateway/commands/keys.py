"""`zerostor keys ...`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.commands.options import json_option, print_json, read_settings, settings_options
from gateway.commands.tables import print_table
from zerostor.core.errors import BadRequest, NotFound, SetupError
from zerostor.whole_file import change_text, read_text

if TYPE_CHECKING:
    from zerostor.core.sign_in import KnownKey


@click.group("keys", short_help="Who may sign in here: add, list, remove keys.")
def command() -> None:
    """The keys that may sign in where gateway.security is "keys", in the file gateway.keys_file.

    The gateway reads the file again by itself. People make their keys with `zerostor keygen`.

    \b
    Examples:
      zerostor keys add anna 1f0c... --role admin
      zerostor keys ls
      zerostor keys rm anna
    """


@command.command("add", short_help="Let a key sign in, or change its name or role.")
@click.argument("name")
@click.argument("key")
@click.option("--role", type=click.Choice(["user", "admin"]), default="user", show_default=True,
              help="An admin may do everything; a user stores and reads.")
@settings_options
def add(name: str, key: str, role: str, folder: Path | None, file: Path | None) -> None:
    """Let the key KEY, 64 hex digits, sign in as NAME: a user of that name has the SSH home of that
    name. One person may have several keys.

    \b
    Examples:
      zerostor keys add anna 1f0c...
      zerostor keys add anna 1f0c... --role admin
    """
    from zerostor.core.homes import user_name
    from zerostor.core.sign_in import KnownKey, Role, key_line, parse_key

    known = KnownKey(parse_key(key), user_name(name), Role(role))
    config = read_settings(folder, file)
    before: list[KnownKey] = []

    def edit(line: str, there: KnownKey | None) -> str:
        if there is None or there.key != known.key:
            return line
        before.append(there)
        _, mark, remark = line.partition("#")
        return key_line(known) + (f"  {mark}{remark}" if mark else "")

    def added(text: str) -> str:
        before.clear()
        edited = _edited(config.keys_file, text, edit)
        return edited if before else f"{edited}{key_line(known)}\n"

    change_text(config.keys_file, lambda text: _checked(config.keys_file, added(text)))
    was = f", who was {before[0].name}, {before[0].role}" if before else ""
    click.echo(f"{known.name} may sign in as {known.role}{was}")
    if config.gateway.security != "keys":
        click.echo(f"nothing asks for it yet: gateway.security is {config.gateway.security!r}",
                   err=True)


@command.command("rm", short_help="Let a key sign in no longer.")
@click.argument("name")
@settings_options
def remove(name: str, folder: Path | None, file: Path | None) -> None:
    """Take away the key NAME (64 hex digits), or all keys of that name. Its sessions end at once.

    \b
    Example:
      zerostor keys rm anna
    """
    config = read_settings(folder, file)
    gone: list[KnownKey] = []

    def edit(line: str, there: KnownKey | None) -> str | None:
        if there is None or name.lower() not in (there.name, there.key.hex()):
            return line
        gone.append(there)
        return None

    def removed(text: str) -> str:
        gone.clear()
        return _edited(config.keys_file, text, edit)

    change_text(config.keys_file, removed)
    if not gone:
        raise NotFound(f"no key and no name {name} is in {config.keys_file}")
    for known in gone:
        click.echo(f"{known.key.hex()} of {known.name} signs in no longer")


@command.command("ls", short_help="List who may sign in.")
@json_option
@settings_options
def show(as_json: bool, folder: Path | None, file: Path | None) -> None:
    """List the keys that may sign in.

    \b
    Example:
      zerostor keys ls
    """
    config = read_settings(folder, file)
    known = _parsed(config.keys_file, read_text(config.keys_file)).values()
    if as_json:
        print_json({"keys": [{"key": one.key.hex(), "name": one.name, "role": one.role}
                             for one in known]})
        return
    print_table(("KEY", "NAME", "ROLE"), [(one.key.hex(), one.name, one.role) for one in known])
    if not known:
        click.echo(f"nobody: {config.keys_file} has no key", err=True)


def _edited(file: Path, text: str, edit: Callable[[str, KnownKey | None], str | None]) -> str:
    """Each line as `edit` makes it, None to leave it out. Nothing where a line is wrong."""
    from zerostor.core.sign_in import parse_key_line

    _parsed(file, text)
    lines = (edit(line, parse_key_line(line)) for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line is not None)


def _checked(file: Path, text: str) -> str:
    _parsed(file, text)
    return text


def _parsed(file: Path, text: str) -> dict[bytes, KnownKey]:
    from zerostor.core.sign_in import parse_keys

    try:
        return parse_keys(text)
    except (SetupError, BadRequest) as error:
        raise SetupError(f"{file}: {error}") from None
