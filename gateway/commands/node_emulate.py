"""`zerostor node emulate`."""

from __future__ import annotations

import contextlib
import fcntl
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.commands.options import Seconds, server_option
from gateway.http_client import Client, Refused
from zerostor.core.errors import SetupError

if TYPE_CHECKING:
    from zerostor.nodes.emulator import EmulatedNode

COUNT_MAX = 500
LOOK_SECONDS = 0.25


@click.command("emulate", short_help="Run nodes without hardware, to try it out.")
@click.option("--count", type=click.IntRange(1, COUNT_MAX), default=5, show_default=True,
              help="How many.")
@click.option("--name", "prefix", default="emu", show_default=True,
              help="They are called NAME-1, NAME-2, ...")
@click.option("--owners", type=click.IntRange(1, COUNT_MAX), default=3, show_default=True,
              help="They belong to so many owners.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False),
              default=Path("emulated-nodes"), show_default=True,
              help="Where their flash lies, as files; used again by the next run.")
@click.option("--drop", type=Seconds(), default=None, metavar="TIME",
              help="About this often one of them loses its power, for as long.")
@click.option("--slow", is_flag=True, help="Flash takes the time it takes on a real chip.")
@server_option
def command(count: int, prefix: str, owners: int, folder: Path, drop: float | None, slow: bool,
            client: Client) -> None:
    """Run emulated ESP32s against the hub of this zerostor, until Ctrl-C.

    It is the firmware itself, run by MicroPython over a flash that is a file. Nodes that the hub
    does not know are added. Ctrl-C takes their power away; what they kept is in the folder.

    \b
    Examples:
      zerostor node emulate --count 5
      zerostor node emulate --count 30 --drop 1m
    """
    from zerostor.core.nodes import node_name

    node_name(f"{prefix}-{count}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # keys are in it
    with _only_one(folder):
        _run(client, folder, [f"{prefix}-{number}" for number in range(1, count + 1)], owners,
             drop, slow)


def _run(client: Client, folder: Path, names: list[str], owners: int, drop: float | None,
         slow: bool) -> None:
    from zerostor.nodes.emulator import build

    made = folder / ".firmware"
    _remove(made)
    firmware = build(made)
    if not firmware.real:
        click.echo("MicroPython is missing here: CPython runs the nodes instead", err=True)
    known = {node["name"] for node in client.ask("/api/nodes").get("nodes") or []}
    nodes = [_node(client, firmware, folder, name, f"owner-{number % owners + 1}", name in known)
             for number, name in enumerate(names, 1)]
    try:
        for node in nodes:
            node.start(slow=int(slow))
        click.echo(f"{len(nodes)} nodes run; their flash is in {folder}. `zerostor node ls` shows"
                   " them, Ctrl-C ends them.")
        _look_after(nodes, drop, slow)
    finally:
        for node in nodes:
            node.kill()
        _remove(made)


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Two that run one device would write over each other's flash."""
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(f"another `zerostor node emulate` runs the nodes in {folder}: end it,"
                             " or give this one a --folder and a --name of its own") from None
        yield


def _look_after(nodes: list[EmulatedNode], drop: float | None, slow: bool) -> None:
    due = time.monotonic() + (drop or 0.0)
    back: dict[int, float] = {}
    while True:
        time.sleep(LOOK_SECONDS)
        now = time.monotonic()
        for number in [number for number, at in back.items() if at <= now]:
            del back[number]
            click.echo(f"{nodes[number].folder.name} has power again")
            nodes[number].start(slow=int(slow))
        for number, node in enumerate(nodes):
            if number not in back and node.look_after():
                click.echo(f"{node.folder.name} began anew")
        running = [number for number in range(len(nodes)) if number not in back]
        if drop is not None and now >= due and running:
            number = random.choice(running)  # noqa: S311 - nobody is to be kept from guessing
            nodes[number].kill()
            back[number] = now + drop * random.uniform(0.5, 1.5)  # noqa: S311
            due = now + drop * random.uniform(0.5, 1.5)  # noqa: S311
            click.echo(f"{nodes[number].folder.name} loses its power")


def _node(client: Client, firmware: Any, folder: Path, name: str, owner: str, known: bool
          ) -> EmulatedNode:
    """One that the hub knows: as it was left, or new."""
    from zerostor.nodes.emulator import EmulatedNode

    node = EmulatedNode(firmware, folder / name)
    if (node.folder / "nvs.json").exists():
        if not known:
            raise SetupError(f"{node.folder} is a node that this hub does not know, and would not"
                             " let in: remove that folder, or give another --folder")
        host, port = _dialed(client.ask("/api/nodes")["hub"]["address"])
        node.configure({"hub": host, "port": port})
        return node
    if node.folder.exists():
        raise SetupError(f"{node.folder} is there, and is no node: remove it, or give another"
                         " --folder")
    try:
        answer = client.ask("/api/nodes/add", method="POST", body={
            "name": name, "owner": owner, "site": f"of {owner}"})
    except Refused as error:
        if "there is a node" not in str(error):
            raise
        raise SetupError(f"the hub knows {name}, but its flash is not in {folder}: give its"
                         f" --folder, or forget it with `zerostor node rm {name}`") from error
    host, port = _dialed(answer["hub"]["address"])
    node.flash({"name": name, "key": bytes.fromhex(answer["key"]), "hub": host, "port": port,
                "update_key": bytes.fromhex(answer["update_key"])})
    return node


def _dialed(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    here = {"0.0.0.0": "127.0.0.1", "[::]": "127.0.0.1"}  # noqa: S104 - what is dialed instead
    return here.get(host, host), int(port)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
