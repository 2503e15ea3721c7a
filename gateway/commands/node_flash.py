"""`zerostor node flash`."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from gateway.commands.options import check_address, server_option
from gateway.http_client import Client
from zerostor.core.errors import BadRequest, SetupError
from zerostor.core.units import parse_address

BOOTLOADER_AT = {"esp32": "0x1000", "esp32c3": "0x0", "esp32s3": "0x0"}
"""Where an image of MicroPython begins on each chip."""
SETTINGS_MAX = 65_536
TEXT_MAX = 64
"""firmware/app/settings.py reads a longer one as none at all, and the device would not start."""


@click.command("flash", short_help="Put firmware and settings into an ESP32.")
@click.argument("port")
@click.argument("settings", required=False, type=click.Path(exists=True, allow_dash=True))
@click.option("--name", metavar="NEW",
              help="Add a node of this name, instead of SETTINGS; also with --dry-run.")
@click.option("--owner", default="", help="Whose the new one is.")
@click.option("--site", default="", help="Where it stands.")
@click.option("--hub", metavar="HOST:PORT", callback=check_address,
              help="Where it dials in.  [default: as the hub listens]")
@click.option("--wifi", default="", metavar="NETWORK", help="The Wi-Fi that it joins.")
@click.option("--wifi-password-file", type=click.Path(exists=True, path_type=Path),
              help="A file with the password of that.")
@click.option("--image", type=click.Path(exists=True, path_type=Path),
              help="MicroPython itself, from micropython.org, with a partition named chunks;"
              " without it the chip keeps the MicroPython it has.")
@click.option("--chip", type=click.Choice(sorted(BOOTLOADER_AT)), default="esp32",
              show_default=True)
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=None,
              help="Where the files are put together.  [default: NAME-node]")
@click.option("--dry-run", is_flag=True, help="Print the commands, run none.")
@server_option
def command(port: str, settings: str | None, name: str | None, owner: str, site: str,
            hub: str | None, wifi: str, wifi_password_file: Path | None, image: Path | None,
            chip: str, folder: Path | None, dry_run: bool, client: Client) -> None:
    """Put the firmware and the keys of a node into the ESP32 at PORT: of a new one (--name), or
    from SETTINGS, which `zerostor node add NAME --json` printed.

    Wraps esptool and mpremote (pip install esptool mpremote). Without them, or without a device at
    PORT, it puts the files together and prints each command.

    \b
    Examples:
      zerostor node flash /dev/ttyUSB0 --name shed-1 --owner anna --hub 192.168.1.5:7777 \\
          --wifi home --wifi-password-file wifi.txt --image ESP32_GENERIC.bin
      zerostor node flash /dev/ttyUSB0 shed-1.json --hub 192.168.1.5:7777 --wifi home
    """
    from zerostor.core.nodes import node_name

    if (settings is None) == (name is None):
        raise click.UsageError("say --name NEW to add a node, or give the SETTINGS of one")
    told = _read(settings) if settings is not None else {}
    name = node_name(name or str(told["name"]))
    folder = folder or Path(f"{name}-node")
    if folder.exists():
        raise SetupError(f"{folder} exists: remove it, or give another --folder")
    hub = _dialed(hub, told or client.ask("/api/nodes"))
    password = wifi_password_file.read_text().strip() if wifi_password_file else ""
    texts = {"--hub": parse_address(hub).host, "--wifi": wifi, "--wifi-password-file": password}
    for option, text in texts.items():
        if len(text.encode()) > TEXT_MAX:
            raise BadRequest(f"{option}: a device keeps texts of at most {TEXT_MAX} bytes")
    # Last, when nothing is left to be said against it: its keys are shown this once.
    told = told or client.ask("/api/nodes/add", method="POST",
                              body={"name": name, "owner": owner, "site": site})
    # It names a file here.
    told["name"] = name
    _put_together(folder, told, _device(told, hub, wifi, password))
    _flash(name, port, folder, commands(port, folder, image, chip),
           "nothing was run" if dry_run else _missing(port, image is not None))


def _put_together(folder: Path, told: dict[str, Any], device: dict[str, str | bytes | int]) -> None:
    """The files for the device; and its settings once more, for another try."""
    from zerostor.nodes.firmware import device_files

    folder.mkdir(mode=0o700, parents=True)
    device_files(folder / "files")
    for file, text in (("settings.py", _settings_script(device)),
                       (f"{told['name']}.json", json.dumps(told))):
        (folder / file).touch(0o600)
        (folder / file).write_text(text)


def _flash(name: str, port: str, folder: Path, steps: list[list[str]], only_told: str) -> None:
    if only_told:
        click.echo(f"{only_told}; the files are in {folder}, and the commands are:", err=True)
        for step in steps:
            click.echo(shlex.join(step))
        return
    for step in steps:
        click.echo(f"+ {shlex.join(step)}", err=True)
        if subprocess.run([sys.executable, "-m", *step], check=False).returncode:  # noqa: S603
            raise SetupError(f"{step[0]} failed; for another try: zerostor node flash {port}"
                             f" {folder / name}.json --folder {folder}-again")
    shutil.rmtree(folder)
    click.echo(f"{name} starts; `zerostor node ls` shows it once it has dialed in")


def commands(port: str, folder: Path, image: Path | None, chip: str) -> list[list[str]]:
    """What is run, one after the other."""
    esptool = ["esptool", "--chip", chip, "--port", port]
    mpremote = ["mpremote", "connect", port]
    files = folder / "files"
    steps = []
    if image is not None:
        steps = [[*esptool, "erase-flash"],
                 [*esptool, "write-flash", BOOTLOADER_AT[chip], str(image)]]
    for path in sorted(files.iterdir()):
        recursive = ["-r"] if path.is_dir() else []
        steps.append([*mpremote, "fs", "cp", *recursive, str(path), ":"])
    # From a file: what stands on a command line every user of this host can read.
    steps.append([*mpremote, "run", str(folder / "settings.py")])
    return [*steps, [*mpremote, "reset"]]


def _read(file: str) -> dict[str, Any]:
    with click.open_file(file, encoding="utf-8") as source:
        try:
            settings = json.loads(source.read(SETTINGS_MAX))
            assert isinstance(settings, dict)
            for name in ("key", "update_key"):
                bytes.fromhex(settings[name])
            str(settings["name"])
        except (ValueError, TypeError, KeyError, AssertionError, RecursionError) as error:
            raise BadRequest(f"{file} is not what `zerostor node add NAME --json` printed"
                             ) from error
    return settings


def _dialed(hub: str | None, told: dict[str, Any]) -> str:
    """An address that a device can dial. Raises BadRequest."""
    address = parse_address(hub or str((told.get("hub") or {}).get("address")))
    if hub is None and address.host in ("0.0.0.0", "::", "127.0.0.1"):  # noqa: S104
        raise BadRequest(f"a device cannot dial {address}: say --hub HOST:PORT, with an address of"
                         " this host that it reaches")
    return str(address)


def _device(settings: dict[str, Any], hub: str, wifi: str, password: str
            ) -> dict[str, str | bytes | int]:
    address = parse_address(hub)
    return {
        "name": str(settings["name"]), "key": bytes.fromhex(settings["key"]),
        "update_key": bytes.fromhex(settings["update_key"]), "hub": address.host,
        "port": address.port, "network": wifi,
        "password": password}


def _settings_script(device: dict[str, str | bytes | int]) -> str:
    lines = ["import esp32", "", 'nvs = esp32.NVS("edn")']
    for name, value in device.items():
        if isinstance(value, int):
            lines.append(f"nvs.set_i32({name!r}, {value})")
        else:
            raw = value.encode() if isinstance(value, str) else value
            lines.append(f"nvs.set_blob({name!r}, {raw!r})")
    return "\n".join([*lines, "nvs.commit()", 'print("settings written")', ""])


def _missing(port: str, with_image: bool) -> str:
    for tool in (*(("esptool",) if with_image else ()), "mpremote"):
        if find_spec(tool) is None:
            return f"{tool} is not installed (pip install {tool})"
    if port.startswith("/") and not Path(port).exists():
        return f"there is no device at {port}"
    return ""
