"""`zerostor gateway`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.commands.options import (
    listen_option,
    read_settings,
    settings_options,
    slave_option,
    tls_option,
)

if TYPE_CHECKING:
    from zerostor.config import Config


@click.command("gateway", short_help="Run one gateway process (`up` runs everything).")
@settings_options
@listen_option
@slave_option
@tls_option
def command(
    folder: Path | None, file: Path | None, listen: str | None, master: str | None,
    tls: str | None,
) -> None:
    """Run the HTTP process in the foreground, logging to stderr.

    It needs the metadata server; Redis may come and go. Workers share its DATA, or, with
    cluster.secret_file, fetch from it what it took.

    \b
    Example:
      zerostor gateway --data /srv/zerostor --listen 0.0.0.0:8080
    """
    config = read_settings(folder, file, listen, master)
    from gateway.commands.folder import free_address, make_folders
    from gateway.commands.process import run_process
    from gateway.commands.self_signed import with_tls

    make_folders(config.paths)
    config = with_tls(config, tls)
    free_address(config.gateway.listen)
    run_process(serve(config))


async def serve(config: Config) -> None:
    """Serve HTTP until cancelled."""
    from gateway import app
    from gateway.commands.cluster import advertised, cluster_of, links
    from gateway.commands.process import unique_name
    from gateway.commands.security import doors_of
    from gateway.commands.self_signed import certificates_of
    from gateway.content import Content
    from gateway.control_link import NODES, ControlLink
    from gateway.home_link import HomeLink
    from gateway.role import RoleWatch
    from gateway.services import Services
    from gateway.waiters import Waiters
    from gateway.wire import wire_of
    from zerostor import wiring
    from zerostor.engine.event_watch import EventWatch
    from zerostor.engine.recent import RecentJobs
    from zerostor.engine.removal import Removal

    scheme = "https" if config.gateway.tls_cert else "http"
    own_url = config.gateway.public_url or f"{scheme}://{config.gateway.listen.reachable}"
    if config.cluster.secret and not config.gateway.public_url:
        own_url = advertised(config)

    name = unique_name("gateway")
    nodes = ControlLink(NODES, config.paths.nodes_socket, enabled=config.nodes.enabled)
    homes = HomeLink(config.paths.ssh_socket, enabled=config.ssh.enabled)
    async with (contextlib.AsyncExitStack() as stack, links(config) as link,
                wiring.build(config, name, link) as parts):
        stack.push_async_callback(homes.close)
        stack.push_async_callback(nodes.close)
        doors = await stack.enter_async_context(doors_of(config, parts))
        services = Services(
            stores=parts.stores, roll=parts.roll, policies=parts.policies,
            metadata=parts.metadata, queue=parts.queue, board=parts.board, spool=parts.spool,
            catalog=parts.catalog, reader=parts.reader, checker=parts.checker,
            removal=Removal(parts.leading, parts.catalog, parts.events, parts.clock,
                            config.keeper.removal_grace),
            waiters=Waiters(parts.queue, parts.spool, parts.spools, homes),
            repairer=parts.repairer, events=parts.events, clock=parts.clock,
            role=RoleWatch(parts.roles, parts.clock, config.metadata.master, own_url,
                           several=len(config.metadata.url) > 1),
            recent=RecentJobs(parts.metadata, parts.clock),
            random_bytes=parts.random_bytes, max_upload=config.gateway.max_upload,
            public_url=config.gateway.public_url, cluster=cluster_of(config, parts),
            archivist=wiring.archivist(config, parts),
            watch=EventWatch(name, 0, parts.events, parts.stores, parts.roles, parts.clock,
                             config.events),
            homes=homes, ssh_admin=config.ssh.admin,
            nodes=nodes, content=Content(config.gateway.content_url, config.gateway.inline),
            audit=wiring.audit(config, parts.clock),
            wire=wire_of(config.gateway, config.limits, parts.buckets, parts.queue, parts.spool,
                         parts.clock, certificates_of(config)),
            **doors._asdict())
        await app.run(services, config.gateway.listen)
