"""`zerostor zdb`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.commands.options import check_address, read_settings, settings_options, slave_option
from zerostor.core.errors import BadRequest, SetupError
from zerostor.core.units import parse_address, parse_size

if TYPE_CHECKING:
    from zerostor.config import Config
    from zerostor.zdb.server_settings import ServerSettings

ALONE = ("mode", "admin", "protect", "datasize", "sync", "id_bytes")
"""Options of a stand-alone server only."""
PASSWORD_FILE_MAX = 4096
_SCALES = {"k": 10, "m": 20, "g": 30}


class DataSize(click.ParamType[int]):
    """A size as 0-db takes it, 256M, or as everything else here does, 256MiB."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Bytes; a usage error for anything else."""
        found = re.fullmatch(r"([0-9]{1,12})([kKmMgG])", value)
        if found:
            return int(found[1]) << _SCALES[found[2].lower()]
        try:
            return parse_size(value)
        except SetupError as error:
            self.fail(str(error), param, ctx)


@click.command("zdb", short_help="Run a 0-db server: that of `up`, or one that stands alone.")
@settings_options
@click.option(
    "--listen", metavar="HOST:PORT", callback=check_address,
    help="Stand alone, on this address (0-db has port 9900).",
)
@click.option("--unix", type=click.Path(path_type=Path), help="Stand alone, on this socket.")
@click.option(
    "--mode", type=click.Choice(["user", "seq", "mixed"]), default="mixed", show_default=True,
    help="Keys are the client's, or counted by the server, or as each namespace says.",
)
@click.option(
    "--admin", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
    help="The file with the admin password. Without it everyone may make namespaces.",
)
@click.option(
    "--protect", is_flag=True,
    help="The default namespace is read-only but for those who select it with that password.",
)
@click.option(
    "--datasize", type=DataSize(), default="256M", show_default=True,
    help="Bytes after which a new file begins: 64k to 4000M.",
)
@click.option(
    "--sync/--no-sync", default=True, show_default=True,
    help="Acknowledge a write when it is on disk, or at once.",
)
@click.option(
    "--id-bytes", type=click.Choice(["4", "8"]), default="8", show_default=True,
    help="Width of counted keys: 8 as 0-db 2.x, 4 as 1.x.",
)
@slave_option
@click.pass_context
def command(
    ctx: click.Context, /, folder: Path | None, file: Path | None, listen: str | None,
    unix: Path | None, master: str | None, **alone: Any,
) -> None:
    """Run a server that speaks 0-db's protocol, in the foreground.

    Without --listen and --unix it is the metadata server of `zerostor up`: its files in
    DATA/metadata, its socket below DATA; [metadata] listen and password_file in the settings
    let other hosts in. With one of them it stands alone, with its files in the folder of --data,
    for any client of 0-db.

    \b
    Examples:
      zerostor zdb --data /srv/zerostor             the metadata server alone
      zerostor zdb --data /srv/zdb --listen :9900 --admin /etc/zdb.password
      zerostor zdb --data /srv/shards --unix /run/shards.sock --mode user
      redis-cli -p 9900 SET greeting hello
      zerostor zdb --data /srv/copy --slave-of zdb://10.0.0.5:9900
    """
    from gateway.commands.folder import make_folders, require_metadata
    from gateway.commands.process import run_process
    from zerostor.zdb.server import serve

    if listen is not None or unix is not None:
        if master is not None:
            raise BadRequest("--slave-of is for the metadata server of `up`, without --listen")
        settings = _alone(folder, listen, unix, **alone)
    else:
        _check_embedded(ctx)
        config = read_settings(folder, file, master=master)
        make_folders(config.paths)
        require_metadata(config)
        settings = embedded(config)
    run_process(serve(settings))


def _check_embedded(ctx: click.Context) -> None:
    for name in ALONE:
        if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            option = name.replace("_", "-")
            raise BadRequest(f"--{option} needs --listen or --unix: a server that stands alone")


def embedded(config: Config) -> ServerSettings:
    """The metadata server of these settings."""
    from zerostor.zdb.server_settings import ServerSettings

    password = config.metadata.password.reveal().encode() or None
    settings = ServerSettings(
        config.paths.metadata, unix=config.paths.zdb_socket, admin_password=password,
        closed=True, trusted=True, master=config.metadata.master,
        announced=f"unix://{config.paths.zdb_socket}",
    )
    if not config.metadata.listen:
        return settings
    address = parse_address(config.metadata.listen)
    return settings._replace(
        host=address.host, port=address.port, announced=f"zdb://{address}")


def _alone(
    folder: Path | None, listen: str | None, unix: Path | None, *, mode: str, admin: Path | None,
    protect: bool, datasize: int, sync: bool, id_bytes: str,
) -> ServerSettings:
    from zerostor.core.settings import is_loopback
    from zerostor.zdb.server_settings import ServerMode, ServerSettings

    if folder is None:
        raise BadRequest("a server that stands alone needs a folder for its files: give --data DIR")
    if (folder / "metadata").is_dir():
        raise BadRequest(
            f"{folder} is the folder of a `zerostor up`: choose another, or set [metadata] listen"
            " to let other hosts reach its metadata server"
        )
    address = parse_address(listen) if listen is not None else None
    if address is not None and admin is None and not is_loopback(address.host):
        click.echo(
            f"warning: whoever can connect to {address} is an admin: give --admin FILE", err=True
        )
    return ServerSettings(
        folder, unix=unix, host=address.host if address else None,
        port=address.port if address else 0, segment_size=datasize, sync=sync,
        id_bytes=int(id_bytes), mode=ServerMode(mode),
        admin_password=_password(admin) if admin else None, protect=protect,
        stoppable=True,
    )


def _password(file: Path) -> bytes:
    """What the file holds, without the line break at its end."""
    try:
        with open(file, "rb") as source:
            password = source.read(PASSWORD_FILE_MAX).strip()
    except OSError as error:
        raise SetupError(f"cannot read the password in {file}: {error.strerror}") from error
    if not password:
        raise SetupError(f"{file} is empty: write the admin password in it")
    return password
