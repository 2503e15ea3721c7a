"""`zerostor ssh`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.commands.options import check_address, read_settings, settings_options

if TYPE_CHECKING:
    from zerostor.config import Config


KEPT_BYTES = 8 * 1024 * 1024
"""Freed memory that is kept. Each thread would else have a heap of its own and keep as much there:
250 MB after some transfers of 1 GB, with one heap 100."""


@click.command("ssh", short_help="Run the SSH process: homes for sftp, scp, rsync, sshfs.")
@settings_options
@click.option(
    "--listen", metavar="HOST:PORT", callback=check_address,
    help="Where it listens.  [default: ssh.listen, 127.0.0.1:2222]",
)
def command(folder: Path | None, file: Path | None, listen: str | None) -> None:
    """Serve SSH homes in the foreground, logging to stderr. `up` runs it where ssh.enabled is set.

    Users are not those of the system: `zerostor ssh-enable` makes them, each with public keys, a
    folder below DATA/homes, and a limit. There is no shell, and nothing is forwarded.

    \b
    Example:
      zerostor ssh --data /srv/zerostor --listen 0.0.0.0:2222
      zerostor ssh-enable anna --key ~/.ssh/id_ed25519.pub --limit 5GB
      sftp -P 2222 anna@this.host
    """
    import msgspec

    from gateway.commands.folder import free_address, make_folders
    from gateway.commands.process import run_process
    from zerostor.core.units import parse_address

    config = read_settings(folder, file)
    make_folders(config.paths)
    wanted = config.ssh.listen if listen is None else parse_address(listen)
    ssh = msgspec.structs.replace(config.ssh, listen=free_address(wanted))
    config = msgspec.structs.replace(config, ssh=ssh)
    run_process(serve(config), KEPT_BYTES)


async def serve(config: Config) -> None:
    """Serve SSH, and what the gateway asks about homes, until cancelled."""
    import logging

    from gateway.commands.process import first_of, unique_name
    from sshgw.confinement import find_confinement
    from sshgw.control import Control, ServerFacts
    from sshgw.host_key import host_key
    from sshgw.server import Server
    from sshgw.services import SshServices
    from zerostor import wiring
    from zerostor.control_socket import serve_control
    from zerostor.home_wiring import build_homes

    async with build_homes(config, unique_name("ssh")) as parts:
        key = host_key(config.paths.host_key)
        services = SshServices(
            settings=config.ssh, host_key=key, homes=parts.homes, book=parts.book,
            clock=parts.clock,
            confinement=await find_confinement(config.ssh.rsync, str(config.homes)),
            audit=wiring.audit(config, parts.clock))
        logging.getLogger("sshgw").info("%s", services.confinement.reason)
        host_line = " ".join(key.export_public_key().decode().split()[:2])
        facts = ServerFacts(str(config.ssh.listen), host_line,
                            key.get_fingerprint())
        control = Control(parts.homes, parts.book, parts.jobs, parts.clock, facts)
        await parts.jobs.load()
        async with serve_control(control.application(), config.paths.ssh_socket):
            written = [services.audit.run()] if services.audit is not None else []
            await first_of(parts.jobs.run(), parts.auto.run(), Server(services).run(), *written)
