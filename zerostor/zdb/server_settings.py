"""What a 0-db server is told at its start."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import NamedTuple

from zerostor.core.errors import SetupError
from zerostor.zdb.segments import SEGMENT_SIZE


class ServerMode(enum.Enum):
    """How namespaces get their keys. MIXED: each its own way, the user's unless NSSET says else."""

    USER = "user"
    SEQUENTIAL = "seq"
    MIXED = "mixed"


class ServerSettings(NamedTuple):
    """What `serve` needs. At least one of `unix` (a path) and `host` must be given.

    directory: of the logs. port: 0 lets the system choose. sync: replies wait for the disk.
    admin_password: None makes everyone an admin. closed: over TCP only PING, TIME, AUTH and INFO
    are answered before AUTH. trusted: the unix socket needs no AUTH. protect: `default` is
    read-only until it is selected with the admin password.

    master: URL of the server whose log of `default` is followed. announced: this server's own URL,
    told to masters and slaves. stoppable: an admin's STOP ends it.
    """

    directory: Path
    unix: Path | None = None
    host: str | None = None
    port: int = 9900
    segment_size: int = SEGMENT_SIZE
    sync: bool = True
    id_bytes: int = 8
    mode: ServerMode = ServerMode.SEQUENTIAL
    admin_password: bytes | None = None
    closed: bool = False
    trusted: bool = False
    protect: bool = False
    master: str = ""
    announced: str = ""
    stoppable: bool = False

    def __repr__(self) -> str:
        password = "" if self.admin_password is None else ", admin_password=***"
        return f"ServerSettings({self.directory}, {self.unix or self.host}{password})"

    def check(self) -> None:
        """Raise SetupError for what cannot work."""
        if self.unix is None and self.host is None:
            raise SetupError("the metadata server needs a unix socket or an address to listen on")
        if self.protect and not self.admin_password:
            raise SetupError("protecting the default namespace needs an admin password")
        if self.admin_password is not None and not 0 < len(self.admin_password) <= 128:
            raise SetupError("an admin password has 1 to 128 bytes")
