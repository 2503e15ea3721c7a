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

from gateway.commands.options import check_address
from zerostor.core.errors import BadRequest, SetupError
from zerostor.core.units import parse_address

BOOTLOADER_AT = {"esp32": "0x1000", "esp32c3": "0x0", "esp32s3": "0x0"}
"""Where an image of MicroPython begins on each chip."""
SETTINGS_MAX = 65_536


@click.command("flash", short_help="Put firmware and settings into an ESP32.")
@click.argument("port")
@click.argument("settings", type=click.Path(exists=True, allow_dash=True))
@click.option("--hub", metavar="HOST:PORT", callback=check_address,
              help="Where it dials in.  [default: what SETTINGS says]")
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
def command(port: str, settings: str, hub: str | None, wifi: str, wifi_password_file: Path | None,
            image: Path | None, chip: str, folder: Path | None, dry_run: bool) -> None:
    """Put the firmware, and the SETTINGS that `zerostor node add NAME --json` printed, into the
    ESP32 at PORT.

    Wraps esptool and mpremote (pip install esptool mpremote). Without them, or without a device at
    PORT, it puts the files together and prints each command.

    \b
    Example:
      zerostor node add shed-1 --json > shed-1.json
      zerostor node flash /dev/ttyUSB0 shed-1.json --hub 192.168.1.5:7777 --wifi home \\
          --wifi-password-file wifi.txt --image ESP32_GENERIC.bin
    """
    from zerostor.nodes.firmware import device_files

    told = _read(settings)
    name, device = str(told["name"]), _device(told, hub, wifi, wifi_password_file)
    folder = folder or Path(f"{name}-node")
    if folder.exists():
        raise SetupError(f"{folder} exists: remove it, or give another --folder")
    folder.mkdir(mode=0o700, parents=True)
    device_files(folder / "files")
    script = folder / "settings.py"
    script.touch(0o600)
    script.write_text(_settings_script(device))
    steps = commands(port, folder, image, chip)
    missing = _missing(port, image is not None)
    if dry_run or missing:
        if missing:
            click.echo(f"{missing}; the files are in {folder}, and the commands are:", err=True)
        for step in steps:
            click.echo(shlex.join(step))
        return
    for step in steps:
        click.echo(f"+ {shlex.join(step)}", err=True)
        if subprocess.run([sys.executable, "-m", *step], check=False).returncode:  # noqa: S603
            raise SetupError(f"{step[0]} failed; the files are in {folder}")
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
            bytes.fromhex(settings["key"])
        except (ValueError, KeyError, AssertionError, RecursionError) as error:
            raise BadRequest(f"{file} is not what `zerostor node add NAME --json` printed"
                             ) from error
    return settings


def _device(settings: dict[str, Any], hub: str | None, wifi: str, password: Path | None
            ) -> dict[str, str | bytes | int]:
    address = parse_address(hub or str((settings.get("hub") or {}).get("address")))
    if hub is None and address.host in ("0.0.0.0", "::", "127.0.0.1"):  # noqa: S104
        raise BadRequest(f"a device cannot dial {address}: say --hub HOST:PORT, with an address of"
                         " this host that it reaches")
    return {
        "name": str(settings["name"]), "key": bytes.fromhex(settings["key"]),
        "update_key": bytes.fromhex(settings["update_key"]), "hub": address.host,
        "port": address.port, "network": wifi,
        "password": password.read_text().strip() if password else ""}


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
