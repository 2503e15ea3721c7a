"""What a metadata server remembers of masters and slaves besides its log: one small file."""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec

from zerostor.core.errors import SetupError
from zerostor.core.msgpack import UNDECODABLE
from zerostor.zdb.disk import SyncFailed, replace_file

FILE_NAME = "replication"
URL_MAX = 1024
"""Characters of a URL that is remembered."""
SLAVES_MAX = 32
"""Slaves remembered, to be asked at a start whether one of them is the master by now."""


class Standing(msgspec.Struct):
    """server: this server's id, 32 hex digits, drawn once.

    led_over: the master that this server was promoted over; settings that still name it as the one
    to follow are out of date. superseded: the epoch of a newer master, as soon as this server heard
    of one; successor: its id; superseded_by: where that is; successor_gateway: where its users
    upload. slaves: URLs by server id, of those that follow this server or the same master. foreign:
    the master that is followed is a 0-db that is not ours, so this log is no copy of its bytes.
    cuts: grows with each end of the log that is put aside; ids in it may be given anew.

    follows: the master that this server follows because it found out that it leads, empty for the
    one of the settings. outdated: what the settings said then; if they still say so when it starts
    they are not believed.
    """

    server: str
    led_over: str = ""
    superseded: int = 0
    superseded_by: str = ""
    successor_gateway: str = ""
    slaves: dict[str, str] = {}
    foreign: bool = False
    successor: str = ""
    cuts: int = 0
    follows: str = ""
    outdated: str = ""

    def learn(self, others: dict[str, str]) -> bool:
        """Remember URLs by id, those heard of last if they are too many; whether any is new."""
        before = dict(self.slaves)
        for server, url in others.items():
            if self.slaves.get(server) != url and server != self.server:
                self.slaves.pop(server, None)
                self.slaves[server] = url if len(url) <= URL_MAX else ""
        while len(self.slaves) > SLAVES_MAX:
            del self.slaves[next(iter(self.slaves))]
        return self.slaves != before


def load_standing(folder: Path) -> Standing:
    """The one kept in `folder`, else a new one, kept from now on. Raises SetupError."""
    path = folder / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Standing)
    except FileNotFoundError:
        standing = Standing(server=secrets.token_hex(16))
        keep_standing(folder, standing)
        return standing
    except (OSError, *UNDECODABLE) as error:
        raise SetupError(
            f"{path} cannot be read ({error}): it says whether this server is master or slave."
            " If it was never promoted and never superseded, remove the file"
        ) from None


def keep_standing(folder: Path, standing: Standing) -> None:
    """Replace the file, durably, whole or not at all. Raises SetupError."""
    path = folder / FILE_NAME
    try:
        replace_file(path, msgspec.json.encode(standing), sync=True)
    except (OSError, SyncFailed) as error:
        raise SetupError(f"cannot write {path}: {error}") from None
