"""Options that several commands share, and how a result is printed."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from gateway.credentials import Address, Credential, Keyring, parse_url
from gateway.http_client import Client
from gateway.plain_text import plain_json
from zerostor.core.errors import BadRequest, SetupError
from zerostor.core.units import parse_address, parse_seconds
from zerostor.whole_file import read_text

if TYPE_CHECKING:
    from zerostor.config import Config

_F = TypeVar("_F", bound=Callable[..., Any])


class Seconds(click.ParamType[float]):
    """A time with a unit, as 30s or 5m."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds; a usage error for anything else."""
        if isinstance(value, float):  # a default
            return value
        try:
            return parse_seconds(value)
        except SetupError as error:
            self.fail(str(error), param, ctx)


def connect(url: str | None, secret_file: Path | None = None) -> Client:
    """The gateway to talk to, with what opens it. url: None for the usual one.

    Warns on stderr where others could hear that. Raises RequestError, SetupError.
    """
    from zerostor.config import server_address, user_folder

    address = parse_url(url or server_address())
    secret = stated_for(address) if secret_file is None else read_secret(secret_file)
    keyring = Keyring(user_folder())

    def renew(address: Address, over: Credential) -> Credential:
        from gateway.commands.signing import sign_in

        pins, key_file = keyring.pins(address.place), Path(over.key_file)
        if not pins.key or not over.key_file or not key_file.exists():
            return over
        fresh = sign_in(Client(address.text, pins=pins), pins, key_file)
        keyring.keep(address.place, fresh)
        return fresh

    client = Client(address.text, keyring, secret=secret, renew=renew)
    if client.has_secret:
        warn_of_listeners(client.address)
    return client


def stated_for(address: Address) -> str:
    """The secret in the environment, if it is for the gateway there; else empty.

    It is for the one that the environment names, or for the usual one.
    """
    from zerostor.config import server_address, stated_secret

    stated = stated_secret()
    return stated if stated and parse_url(server_address()).place == address.place else ""


def warn_of_listeners(address: Address) -> None:
    """Say on stderr that others can hear what opens the gateway there, if they can."""
    if address.secret_may_be_heard:
        click.echo(f"zerostor: warning: what opens {address.text} goes there unencrypted: who can"
                   " listen on the way can use it. https:// keeps it to the two of you", err=True)


def read_secret(file: Path) -> str:
    """The secret in a file. Raises SetupError."""
    secret = read_text(file).strip()
    if not secret:
        raise SetupError(f"there is no secret in {file}")
    return secret


def _connect(ctx: click.Context, _param: click.Parameter, value: str | None) -> Client:
    return connect(value, ctx.meta.get(f"{__name__}.file"))


def _note_secret(ctx: click.Context, _param: click.Parameter, value: Path | None) -> None:
    ctx.meta[f"{__name__}.file"] = value


def server_option(function: _F) -> _F:
    """--server and --secret-file, as one argument `client`, whose answers may be anything."""
    @wraps(function)
    def asking(*arguments: Any, client: Client, **named: Any) -> Any:
        with client.understanding():
            return function(*arguments, client=client, **named)

    secret = click.option(
        "--secret-file",
        type=click.Path(path_type=Path, dir_okay=False),
        callback=_note_secret,
        is_eager=True,
        expose_value=False,
        help="What opens the gateway, for scripts.  [ZEROSTOR_GATEWAY_SECRET; default: what"
        " `zerostor login` kept]",
    )
    server = click.option(
        "--server",
        "client",
        metavar="URL",
        callback=_connect,
        help="The gateway to talk to.  [ZEROSTOR_SERVER; default: http://127.0.0.1:8080]",
    )
    return cast("_F", server(secret(asking)))


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def settings_options(function: _F) -> _F:
    """--data and --config, for commands that read the settings; see `read_settings`."""
    folder = click.option(
        "--data",
        "folder",
        type=click.Path(path_type=Path, file_okay=False),
        help="The folder that holds everything.  [ZEROSTOR_DATA; default: ./data]",
    )
    file = click.option(
        "--config",
        "file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The settings.  [ZEROSTOR_CONFIG; default: DATA/zerostor.toml, if it is there]",
    )
    return folder(file(function))



def check_address(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> str | None:
    """The callback of an option that is an address."""
    try:
        if value is not None:
            parse_address(value)
    except SetupError as error:
        raise BadRequest(str(error)) from error
    return value


listen_option = click.option(
    "--listen",
    metavar="HOST:PORT",
    callback=check_address,
    help="Where the gateway listens.  [default: 127.0.0.1:8080]",
)


slave_option = click.option(
    "--slave-of",
    "master",
    metavar="URL",
    help="Follow the metadata server at zdb://HOST:PORT or unix:///PATH, and only read.",
)


def read_settings(
    folder: Path | None, file: Path | None, listen: str | None = None, master: str | None = None
) -> Config:
    """The effective settings."""
    from zerostor.config import load

    return load(folder, file, listen=listen, master=master)


def given(config: Config) -> str:
    """The options that lead a command pasted into this folder's shell to the same settings."""
    from zerostor.config import FILE_NAME

    root, source = config.paths.root, config.source
    told = "" if root == Path.cwd() / "data" else f" --data {shlex.quote(str(root))}"
    if source not in (None, root / FILE_NAME):
        told += f" --config {shlex.quote(str(source))}"
    return told


def print_json(value: object) -> None:
    """One JSON document on one line of stdout."""
    click.echo(plain_json(value))


tls_option = click.option(
    "--tls",
    type=click.Choice(["self-signed"]),
    help="Serve https with a certificate made here, kept in DATA/tls, for trying it out.",
)
