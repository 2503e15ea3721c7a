"""`zerostor ssh-enable`."""

from __future__ import annotations

import shlex
from typing import Any

import click

from gateway.commands.options import Seconds, json_option, print_json, server_option
from gateway.commands.tables import print_line
from gateway.http_client import Client
from zerostor.core.errors import BadRequest, SetupError
from zerostor.core.units import parse_size, size_text

KEY_FILE_MAX = 64 * 1024
MB = 1_000_000


@click.command("ssh-enable", short_help="Make an SSH home, add a key to one, change its limit.")
@click.argument("user")
@click.option("--key", "key_file", metavar="FILE", type=click.Path(exists=True, allow_dash=True),
              help="A public key, as ~/.ssh/id_ed25519.pub; - is standard input.")
@click.option("--limit", metavar="SIZE", help="What its files may take, as 5GB."
              "  [default: ssh.home_limit, 1GB]")
@click.option("--quota", type=click.Choice(["refuse", "drop-oldest"]),
              help="What does not fit: it is refused, or the oldest files go for it.")
@click.option("--auto/--no-auto", "auto", default=None,
              help="Store each finished upload by itself, or no longer.")
@click.option("--auto-quiet", type=Seconds(), default=None, metavar="TIME",
              help="Seconds without a change until one counts as finished.  [default: 10s]")
@click.option("--auto-remove", is_flag=True, help="Take the file away once it is stored.")
@click.option("--no-link-files", is_flag=True,
              help="Do not write NAME.link beside it; `zerostor ssh-links` has the links.")
@json_option
@server_option
def command(
    user: str, key_file: str | None, limit: str | None, quota: str | None, auto: bool | None,
    auto_quiet: float | None, auto_remove: bool, no_link_files: bool, as_json: bool, client: Client
) -> None:
    """Let USER in over SSH (sftp, scp, rsync, sshfs), into a folder with a limit of its own.

    Run it again to add another key, or to change what is said with it; the rest stays.

    \b
    Examples:
      zerostor ssh-enable anna --key ~/.ssh/id_ed25519.pub --limit 5GB
      zerostor ssh-enable anna --limit 20GB
      zerostor ssh-enable camera --key - --quota drop-oldest --auto --auto-remove < camera.pub
    """
    asked: dict[str, object] = {"username": user}
    if key_file is not None:
        asked["sshpubkey"] = _public_key(key_file)
    if limit is not None:
        asked["max_size_mb"] = _size(limit) / MB
    if quota is not None:
        asked["quota"] = quota
    details = {name: value for name, value, said in (
        ("quiet", auto_quiet, auto_quiet is not None), ("remove", True, auto_remove),
        ("link_files", False, no_link_files)) if said}
    if auto is False and details:
        raise click.UsageError("--no-auto goes with no other --auto option")
    if auto is not None or details:
        asked["auto_process"] = auto is not False and (details or True)
    answer = client.ask("/api/ssh/enable", method="POST", body=asked)
    if as_json:
        print_json(answer)
    else:
        _show(answer)


def _public_key(file: str) -> str:
    with click.open_file(file, encoding="utf-8", errors="replace") as source:
        text = str(source.read(KEY_FILE_MAX))
    if "PRIVATE KEY" in text:
        # Said here, so that it never leaves this machine.
        raise BadRequest(f"{file} is a private key: give the file beside it that ends in .pub")
    return text


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except SetupError as error:
        raise click.UsageError(str(error)) from error


def _show(answer: dict[str, Any]) -> None:
    server = answer.get("server") or {}
    host, _, port = str(server.get("address")).rpartition(":")
    host = host if host not in ("", "0.0.0.0", "[::]") else "THIS-HOST"  # noqa: S104
    used = size_text(int(answer.get("used") or 0))
    print_line(f"{answer['user']}: {used} of {size_text(int(answer['limit']))} used")
    for key in answer.get("keys") or []:
        print_line(f"  {key['fingerprint']}  {key['comment']}".rstrip())
    if answer.get("auto_process"):
        quiet = answer["auto_process"]["quiet"]
        then = ", then takes it away" if answer["auto_process"].get("remove") else ""
        print_line(f"  stores by itself what is unchanged for {quiet:g} s{then}")
    if answer.get("quota") == "drop-oldest":
        print_line("  when it is full, the oldest files go, stored or not")
    way = shlex.join(["sftp", "-P", port, f"{answer['user']}@{host}"])
    print_line(f"log in with: {way}")
    print_line(f"the server's host key: {server.get('fingerprint')}")
