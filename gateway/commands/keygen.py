"""`zerostor keygen`."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import click

from gateway.commands.options import json_option, print_json


@click.command("keygen", short_help="Make the key that you sign in with.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False),
              help="Where the key is kept.  [default: ~/.config/zerostor/key]")
@click.option("--name", help="What the gateway is to call you.  [default: your login name]")
@json_option
def command(out: Path | None, name: str | None, as_json: bool) -> None:
    """Make a key, and print the line that lets it in where gateway.security is "keys".

    The key stays in a file of yours, and never leaves this machine. What is printed is no secret:
    give it to whoever runs the gateway.

    \b
    Example:
      zerostor keygen                   prints KEY NAME ROLE
      zerostor keys add NAME KEY        on the host of the gateway
      zerostor login https://HOST       then put, get and the others use it
    """
    from zerostor.config import user_folder
    from zerostor.core.errors import BadRequest, SetupError
    from zerostor.core.homes import user_name
    from zerostor.core.sign_in import KnownKey, Role, key_line
    from zerostor.identity import new_identity, read_identity

    named = user_name(name) if name is not None else None
    if named is None:
        try:
            named = user_name(pwd.getpwuid(os.getuid()).pw_name.lower())
        except (KeyError, BadRequest):
            named = "user"
    path = out or user_folder() / "key"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"cannot make the folder {path.parent}: {error.strerror}") from error
    if os.path.lexists(path):
        there = read_identity(path).public_key.hex()
        raise SetupError(f"there is a key in {path} already, {there}: use it, or make another with"
                         " --out FILE")
    made = KnownKey(new_identity(path).public_key, named, Role.USER)
    if as_json:
        print_json({"key": made.key.hex(), "name": named, "file": str(path)})
        return
    click.echo(key_line(made))
    click.echo(f"The key is in {path}: keep a copy of it. On the host of the gateway this lets you"
               f" in:\n  zerostor keys add {named} {made.key.hex()}", err=True)
