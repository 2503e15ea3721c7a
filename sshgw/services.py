"""What the SSH process works with; handed in by the command that starts it."""

from __future__ import annotations

import dataclasses

import asyncssh

from sshgw.confinement import Confinement
from zerostor.core.settings import SshSettings
from zerostor.engine.audit import Audit
from zerostor.engine.homes import Homes
from zerostor.home_ports import HomeBook
from zerostor.ports import Clock


@dataclasses.dataclass(frozen=True)
class SshServices:
    """settings: [ssh]. host_key: what the server proves itself with. confinement: of rsync. audit:
    where logins are written down, if they are.
    """

    settings: SshSettings
    host_key: asyncssh.SSHKey
    homes: Homes
    book: HomeBook
    clock: Clock
    confinement: Confinement
    audit: Audit | None = None
