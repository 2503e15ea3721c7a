"""`zerostor node console`."""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path

import click

from gateway.commands.options import read_settings, settings_options
from zerostor.core.errors import BadRequest, HubAway, SetupError

BLOCK = 65_536
_BYE = b"QUIT,OK\n"
_BEGIN = "WRITE,NAME,DATA  READ,NAME  LS  HELP  QUIT"


@click.command("console", short_help="Small files on nodes, by lines: WRITE, READ, LS, ...")
@click.argument("line", required=False)
@settings_options
@click.pass_context
def command(ctx: click.Context, line: str | None, folder: Path | None, file: Path | None) -> None:
    """Talk to the console of the node hub on this host: LINE, or what is typed or piped.

    \b
      WRITE,NAME,DATA     make a file, in the place of what had its name
      APPEND,NAME,DATA    add to its end
      READ,NAME           its bytes, behind a line with their number
      DELETE,NAME         take it away
      LS                  have each node prove what it keeps, and replace what is wrong
      FORMAT              take all files away; nothing else on the nodes is touched
      QUIT
    WRITEB,NAME,LENGTH and APPENDB,NAME,LENGTH take any bytes, behind the line.

    \b
    Examples:
      zerostor node console WRITE,motd,'hello, nodes'
      zerostor node console LS

    Exit code 1 if LINE is refused.
    """
    path = read_settings(folder, file).paths.console_socket
    if line is not None and "\n" in line:
        raise BadRequest("LINE is one line")
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except OSError as error:
            raise SetupError(f"no node hub answers at {path} ({error.strerror}): start it with"
                             " `ZEROSTOR_NODES_ENABLED=true zerostor up`, or name its --data"
                             ) from error
        if line is not None:
            connection.sendall(line.encode(errors="surrogateescape") + b"\n")
            connection.shutdown(socket.SHUT_WR)
            answer, _ = _print(connection)
            if not answer:
                raise HubAway("the node hub hung up without an answer: it ended, or it waited"
                              " for more bytes")
            ctx.exit(1 if answer.partition(b",")[2].startswith(b"ERR,") else 0)
        if sys.stdin.isatty():
            click.echo(_BEGIN, err=True)
        sending = threading.Thread(target=_send, args=(connection,), daemon=True)
        sending.start()
        _, end = _print(connection)
        if sending.is_alive() and not end.endswith(_BYE):
            raise HubAway("the node hub hung up")


def _send(connection: socket.socket) -> None:
    try:
        while block := os.read(sys.stdin.fileno(), BLOCK):
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        return  # it ended, and the other thread says so


def _print(connection: socket.socket) -> tuple[bytes, bytes]:
    """All that comes; its first and last bytes are returned. Raises HubAway."""
    begin = end = b""
    try:
        while block := connection.recv(BLOCK):
            begin = begin or block
            end = (end + block)[-len(_BYE) :]
            click.echo(block, nl=False)
    except ConnectionError as error:
        raise HubAway("the node hub is gone") from error
    return begin, end
