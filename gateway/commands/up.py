"""`zerostor up`."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.commands.options import (
    given,
    listen_option,
    read_settings,
    settings_options,
    slave_option,
    tls_option,
)
from gateway.commands.self_signed import certificate_line, is_self_signed, pinned, with_tls
from gateway.commands.ssh_face import SshFace
from gateway.http_client import Client, Refused
from zerostor.core.errors import ZerostorError

if TYPE_CHECKING:
    from gateway.supervisor import Child
    from zerostor.config import Config

SSH_HINT = "off; for sftp, scp and rsync: ZEROSTOR_SSH_ENABLED=true, or enabled = true in [ssh]"
NODES_HINT = "off; for ESP32 nodes: ZEROSTOR_NODES_ENABLED=true, or enabled = true in [nodes]"
SSH_WAITS = 100
"""How often the SSH server is asked whether it answers, before the screen comes without it."""
IMPATIENT = 10.0
"""Seconds between saying what still keeps us from being ready."""


@click.command("up", short_help="Run everything here, under one folder.")
@settings_options
@listen_option
@slave_option
@tls_option
def command(
    folder: Path | None, file: Path | None, listen: str | None, master: str | None,
    tls: str | None,
) -> None:
    """Run a whole zerostor under one folder, and stop it with Ctrl-C.

    Processes that die are started again. Their logs are in DATA/logs.

    \b
    Examples:
      zerostor up                                   data in ./data, page on 127.0.0.1:8080
      zerostor up --data /srv/zerostor --listen 0.0.0.0:80
      zerostor up --tls self-signed                 https, with a certificate made here
      ZEROSTOR_GATEWAY_SECURITY=keys zerostor up    only who is in `zerostor keys ls` may store
      REDIS_URL=redis://redis:6379 zerostor up      use that Redis, start none
      zerostor up --data /srv/slave --config grid.toml --slave-of zdb://10.0.0.5:9900
                                                    keep a copy of that one's metadata, serve reads
    """
    config = read_settings(folder, file, listen, master)
    import msgspec

    from gateway.commands.folder import (
        check_slave,
        free_address,
        make_folders,
        only_one,
        require_metadata,
    )
    from gateway.commands.security import require_keys
    from gateway.commands.versions import warn_of_old
    from gateway.supervisor import Supervisor

    check_slave(config)
    make_folders(config.paths)
    with only_one(config.paths):
        require_metadata(config)
        require_keys(config)
        address = free_address(config.gateway.listen)
        gateway = msgspec.structs.replace(config.gateway, listen=address)
        ssh, nodes = config.ssh, config.nodes
        if ssh.enabled:
            address = free_address(ssh.listen, "in ssh.listen")
            ssh = msgspec.structs.replace(ssh, listen=address)
        if nodes.enabled:
            address = free_address(nodes.listen, "in nodes.listen")
            nodes = msgspec.structs.replace(nodes, listen=address)
        config = msgspec.structs.replace(config, gateway=gateway, ssh=ssh, nodes=nodes)
        start_stores(config)
        warn_of_old(config)
        secured = with_tls(config, tls)
        supervisor = Supervisor(children(config, master, tls), config.paths.logs, say)
        supervisor.run(Watch(secured).ready)
    say("stopped")


def say(line: str) -> None:
    """Print a line, if there is anyone left to read it: a closed terminal must not end the rest."""
    with contextlib.suppress(OSError):
        click.echo(line)


def start_stores(config: Config) -> None:
    """Make the default stores on the first start; later only warn about those that are gone."""
    import msgspec

    from zerostor.stores.folder_marker import MARKER, initialise

    marker = config.paths.stores_marker
    if config.own_stores and not marker.exists():
        for store in config.store:
            initialise(store.folder, store.name)
        marker.touch()
    for store in config.store:
        if store.folder and not (Path(store.folder) / MARKER).exists():
            click.echo(
                f"warning: store {store.name} is not at {store.folder}: mount its disk, or start it"
                f" empty with `zerostor stores init {store.name}{given(config)}`"
            )
    # Nodes dial in later, when their hub runs.
    remote = tuple(store for store in config.store if not store.folder and not store.node)
    if remote:
        _warn_of_servers(msgspec.structs.replace(config, store=remote))


def _warn_of_servers(config: Config) -> None:
    import asyncio

    from zerostor.store_wiring import try_stores

    for reason in filter(None, asyncio.run(try_stores(config)).values()):
        click.echo(f"warning: {reason}")


def children(config: Config, master: str | None = None, tls: str | None = None) -> list[Child]:
    """The processes of this configuration, in the order of starting.

    master: what the command line said; what the settings say the children read themselves.
    """
    from gateway.supervisor import Child

    here = Path(__file__).resolve().parents[2]
    # -P: a folder or file of ours in the current directory must not be imported in our place.
    python = [sys.executable, *([] if here == Path.cwd() else ["-P"]), "-m", "gateway"]
    settings = ["--data", str(config.paths.root)]
    settings += ["--config", str(config.source)] if config.source else []
    follow = ["--slave-of", master] if master else []
    secured = ["--tls", tls] if tls else []
    kept = []
    if config.redis.embedded:
        kept.append(Child("redis", [*python, "redis", *settings], signal.SIGTERM))
    if config.metadata.embedded:
        kept.append(Child("zdb", [*python, "zdb", *settings, *follow]))
    if config.nodes.enabled:
        listen = ["--listen", str(config.nodes.listen)]
        kept.append(Child("nodes", [*python, "nodes", *settings, *listen]))
    for number in range(config.worker.processes):
        name = "worker" if config.worker.processes == 1 else f"worker-{number + 1}"
        kept.append(Child(name, [*python, "worker", *settings]))
    listen = ["--listen", str(config.gateway.listen)]
    kept.append(Child("gateway", [*python, "gateway", *settings, *listen, *follow, *secured]))
    if config.keeper.enabled:
        kept.append(Child("keeper", [*python, "keeper", *settings], late=True))
    if config.ssh.enabled:
        listen = ["--listen", str(config.ssh.listen)]
        kept.append(Child("ssh", [*python, "ssh", *settings, *listen]))
    return kept


class Watch:
    """Asks the gateway whether it is ready, and prints the screen once it is."""

    def __init__(self, config: Config) -> None:
        self._config = config
        pins, scheme = pinned(config), "https" if config.gateway.tls_cert else "http"
        self._client = Client(f"{scheme}://{config.gateway.listen.reachable}", pins=pins)
        self._start = self._told = time.monotonic()
        self._ssh = SshFace(config) if config.ssh.enabled else None
        self._ssh_waits = SSH_WAITS

    def ready(self) -> bool:
        """True from the first time that an upload would work."""
        try:
            self._client.ask("/readyz", wait=-28.0)
        except ZerostorError as error:
            now = time.monotonic()
            if now - self._told >= IMPATIENT:
                self._told = now
                say(f"not ready after {now - self._start:.0f} s: {error}")
            return False
        if self._ssh_starts():
            return False
        self._show(time.monotonic() - self._start)
        return True

    def _ssh_starts(self) -> bool:
        """Whether to wait for the SSH server: not for ever, since all else works without it."""
        if self._ssh is not None and self._ssh_waits:
            self._ssh_waits -= 1
            return not self._ssh.answers()
        return False

    def _show(self, seconds: float) -> None:
        from gateway.commands.security import access_line
        from zerostor.core.settings import PUBLIC_MODE

        config, url = self._config, self._config.gateway.public_url or self._client.url
        answer = self._stores_answer()
        policy = config.policy["default"]
        metadata = answer.get("metadata") or {}
        reads_only = answer.get("uploads") is False
        stored = "" if reads_only else f", stored once {policy.durable} are on disk"
        redis = "embedded" if config.redis.embedded else config.redis.url
        lines = {
            "page": click.style(url, bold=True),
            **certificate_line(config),
            "data": str(config.paths.root),
            "stores": self._stores(answer),
            "policy": f"{policy.data} + {policy.parity} shards{stored}; any {policy.parity} stores"
            " may be lost",
            "redis": redis,
            "ssh": self._ssh.line() if self._ssh else SSH_HINT,
            "nodes": f"they dial {config.nodes.listen}" if config.nodes.enabled else NODES_HINT,
            "logs": str(config.paths.logs),
        }
        access = access_line(config)
        lines |= {"access": access} if access else {}
        say(f"\n  {click.style('zerostor', fg='cyan', bold=True)} is up, in {seconds:.1f} s\n")
        for name, text in lines.items():
            say(f"  {click.style(f'{name:<8}', dim=True)}{text}")
        if reads_only:
            say(f"\n  It follows {metadata.get('master')} and only reads, until `zerostor"
                f" promote{given(config)}`.\n  Ctrl-C stops it.\n")
            return
        there = "" if self._client.url == "http://127.0.0.1:8080" else f" --server {url}"
        say("")
        if config.gateway.security != PUBLIC_MODE or is_self_signed(config):
            say(f"  zerostor login {url}")
        say(f"  zerostor put photo.jpg{there}")
        if config.gateway.security == PUBLIC_MODE:
            trusted = f"--cacert {config.gateway.tls_cert} " if is_self_signed(config) else ""
            say(f"  curl {trusted}--data-binary @photo.jpg '{url}/api/upload?ext=jpg'")
        if self._ssh is not None:
            say(f"  zerostor ssh-enable anna --key ~/.ssh/id_ed25519.pub{there}")
        if config.nodes.enabled:
            say(f"  zerostor node emulate --count 5{there}")
        say("\n  Ctrl-C stops it.\n")

    def _stores_answer(self) -> dict[str, Any]:
        try:
            return dict(self._client.ask("/api/stores"))
        except Refused as error:
            # A stranger to its own gateway, as everybody is who is not signed in.
            return {"error": "" if error.status == 401 else str(error)}
        except ZerostorError as error:
            return {"error": str(error)}

    def _stores(self, answer: dict[str, Any]) -> str:
        stores: list[dict[str, Any]] | None = answer.get("stores")
        if stores is None:
            told = f" ({answer['error']})" if answer["error"] else ""
            return f"{len(self._config.store)}{told}"
        down = [str(store.get("name")) for store in stores if store.get("state") != "up"]
        counted = f"{len(stores) - len(down)} of {len(stores)} up"
        return f"{counted}; not up: {', '.join(down)}" if down else counted
