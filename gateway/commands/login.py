"""`zerostor login`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from gateway.commands.options import (
    json_option,
    print_json,
    read_secret,
    stated_for,
    warn_of_listeners,
)
from gateway.commands.signing import sign_in
from gateway.commands.tables import moment
from gateway.credentials import Address, Credential, Keyring, Pins, parse_url
from gateway.http_client import TIMEOUT, Client, Refused, Unreachable
from gateway.trust import (
    UNSIGNED,
    Stranger,
    UntrustedCertificate,
    changed,
    unsigned_certificate,
)
from zerostor.core.errors import RequestError, SetupError

_MODES = ("public", "secret", "keys")


@click.command("login", short_help="Sign in to a gateway, for a day.")
@click.argument("url", required=False)
@click.option("--key", "key_file", type=click.Path(path_type=Path, dir_okay=False),
              help="Your key.  [default: ~/.config/zerostor/key, as `zerostor keygen` makes it]")
@click.option("--secret-file", type=click.Path(path_type=Path, dir_okay=False),
              help="The secret of a gateway that has one, instead of asking for it.")
@click.option("--yes", is_flag=True, help="Take a gateway that is not known yet for the right one.")
@click.option("--show", is_flag=True,
              help="Print what opens the gateway for a day, for its page or curl; keep nothing.")
@json_option
def command(url: str | None, key_file: Path | None, secret_file: Path | None, yes: bool, show: bool,
            as_json: bool) -> None:
    """Sign in to the gateway at URL, so that put, get and the others may talk to it.

    Its key is noted the first time, and another one is refused from then on, as ssh does; so is a
    certificate that no authority signed. When the day is over the commands sign in again with the
    same key, until you log out.

    \b
    Examples:
      zerostor login https://store.example.org
      zerostor login --yes --secret-file secret http://127.0.0.1:8080
    """
    from zerostor.config import server_address, user_folder

    address = parse_url(url or server_address())
    keyring = Keyring(user_folder())
    known = keyring.pins(address.place)
    seen, mode = _look(address, known)
    _recognise(address, known, seen, mode)
    if known != seen and any(seen):
        _confirm(address, known, seen, yes=yes)
    if mode == "public":
        if seen != known:
            keyring.pin(address.place, seen)
        _tell(as_json, {"url": address.text, "security": mode},
              f"{address.text} is open to everybody: nothing is needed")
        return
    warn_of_listeners(address)
    client = Client(address.text, pins=seen)
    if mode == "keys":
        credential = sign_in(client, seen, key_file or user_folder() / "key")
    else:
        credential = _admitted(address, seen, secret_file)
    keyring.pin(address.place, seen)
    if show:
        click.echo(credential.secret)
        return
    keyring.keep(address.place, credential)
    _report(address, credential, mode, as_json=as_json)


def _look(address: Address, known: Pins) -> tuple[Pins, str]:
    """(what the gateway shows of itself, its security mode). Nothing secret is sent."""
    try:
        told, seen = _ask(address, known), known
    except UntrustedCertificate as error:
        if error.number not in UNSIGNED:
            raise
        try:
            certificate = unsigned_certificate(address, TIMEOUT)
        except OSError as broken:
            raise Unreachable(f"the connection to {address.text} broke off: {broken}") from broken
        seen = known._replace(certificate=certificate)
        told = _ask(address, seen)
    key, mode = told.get("key"), told.get("security")
    if mode not in _MODES or not isinstance(key, str) or not _is_key(key):
        raise Stranger(f"what answers at {address.text} does not say how to sign in")
    # Nothing depends on the key of a gateway that anybody may use, but that it stays what it was.
    shown = key.lower() if mode != "public" or known.key else ""
    return seen._replace(key=shown), mode


def _ask(address: Address, pins: Pins) -> dict[str, Any]:
    try:
        return Client(address.text, pins=pins).ask("/api/pubkey")
    except Refused as error:
        if error.status != 404:
            raise
        raise Stranger(f"{address.text} has no sign-in: is it a zerostor of today?") from None


def _is_key(text: str) -> bool:
    from zerostor.core.sign_in import parse_key

    try:
        return bool(parse_key(text))
    except RequestError:
        return False


def _recognise(address: Address, known: Pins, seen: Pins, mode: str) -> None:
    """Raise Stranger if the gateway shows something else than what it is known by."""
    if known.key and seen.key != known.key:
        raise Stranger(changed(address.text, "key", known.key, seen.key))
    if known.key and seen.certificate != known.certificate:
        raise Stranger(changed(address.text, "certificate", "one that an authority signed",
                               seen.certificate))
    if known.key and mode == "public":
        click.echo(f"zerostor: {address.text} asked for a sign-in before, and asks none now",
                   err=True)


def _confirm(address: Address, known: Pins, seen: Pins, *, yes: bool) -> None:
    """Ask whether that is the gateway that is meant; return if so. Raises SetupError."""
    lines = [f"{address.text} is not known here yet."]
    if seen.certificate != known.certificate:
        lines.append(f"  certificate  {seen.certificate}\n               (SHA-256; no authority"
                     " signed it)")
    if seen.key != known.key:
        lines.append(f"  key          {seen.key}\n               (its own screen says the"
                     " same)")
    click.echo("\n".join(lines), err=True)
    if yes:
        return
    if not sys.stdin.isatty():
        raise SetupError("nobody is here to say whether that is the gateway you mean: --yes takes"
                         " it")
    if not click.confirm("Is that the gateway you mean?", err=True):
        raise SetupError("not signed in; nothing was sent, and nothing is kept")


def _admitted(address: Address, pins: Pins, secret_file: Path | None) -> Credential:
    """The secret, once the gateway took it."""
    if secret_file is not None:
        secret = read_secret(secret_file)
    elif not (secret := stated_for(address)):
        if not sys.stdin.isatty():
            raise SetupError(f"{address.text} asks for its secret: name a file with it,"
                             " --secret-file FILE")
        secret = str(click.prompt(f"Secret of {address.text}", hide_input=True, err=True)).strip()
    try:
        Client(address.text, secret=secret, pins=pins).ask("/api/sessions")
    except Refused as error:
        if error.status != 404:  # it has no sessions, and let us in to say so
            raise
    return Credential(secret, role="admin")


def _report(address: Address, credential: Credential, mode: str, *, as_json: bool) -> None:
    answer: dict[str, object] = {"url": address.text, "security": mode, "name": credential.name,
                                 "role": credential.role, "session": credential.session,
                                 "expires": credential.expires}
    if mode == "secret":
        _tell(as_json, answer, f"signed in to {address.text} with its secret")
        return
    _tell(as_json, answer, f"signed in to {address.text} as {credential.name} ({credential.role}),"
                           f" until {moment(credential.expires)}")


def _tell(as_json: bool, answer: dict[str, object], line: str) -> None:
    if as_json:
        print_json(answer)
    else:
        click.echo(line)
