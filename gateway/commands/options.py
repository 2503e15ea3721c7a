"""Options that several commands share, and how a result is printed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gateway.http_client import Client
from zerostor.core.errors import BadRequest, SetupError
from zerostor.core.units import parse_address, parse_seconds

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


def _connect(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Client:
    from zerostor.config import server_address

    return Client(value or server_address())


server_option = click.option(
    "--server",
    "client",
    metavar="URL",
    callback=_connect,
    help="The gateway to talk to.  [ZEROSTOR_SERVER; default: http://127.0.0.1:8080]",
)
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
    click.echo(json.dumps(value, ensure_ascii=False))
