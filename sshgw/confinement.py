"""What confines rsync on this host: found out once, at the start, by trying it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sshgw import confined, confining, landlock, namespaces

PROBE_TIME = 20.0
"""Seconds that a trial may take."""
_PACKAGES = str(Path(__file__).resolve().parents[1])
_FOREIGN = "/proc/"


class Confinement(NamedTuple):
    """way: landlock, namespace, unconfined, or empty: rsync is not run, and `reason` says why.

    rsync: the path of the program. reason: one sentence for the log, and for clients without rsync.
    """

    way: str
    rsync: str
    reason: str

    def root(self, home: str) -> str:
        """Where rsync sees the home that lies at `home`."""
        return namespaces.HOME if self.way == confining.NAMESPACE else os.path.abspath(home)

    def command(self, home: str, access: str, largest: int, control: int,
                arguments: Sequence[str]) -> list[str]:
        """How it is started, with the environment of `confining`. access: change, read, remove.

        largest: bytes of a file. control: a socket that it inherits, see `confined`.
        """
        return [
            sys.executable, "-I", "-S", "-c", confined.START, _PACKAGES,
            self.way, os.path.abspath(home), access, str(largest), str(control), self.rsync,
            *arguments,
        ]


async def find_confinement(setting: str, homes: str) -> Confinement:
    """Try what this kernel has. setting: as [ssh] rsync. homes: the folder of all homes."""
    if setting == "off":
        return Confinement("", "", "rsync is switched off on this server; SFTP and scp work")
    found = shutil.which("rsync")
    if found is None:
        return Confinement("", "", "rsync is not installed on this server; SFTP and scp work")
    rsync = await asyncio.to_thread(os.path.realpath, found)
    failed = []
    for way in (confining.LANDLOCK, confining.NAMESPACE):
        reason = _unfit(way, homes) or await _try(Confinement(way, rsync, ""), homes)
        if not reason:
            return Confinement(way, rsync, f"rsync is confined to the home by {_NAMES[way]}")
        failed.append(f"{_NAMES[way]}: {reason}")
    why = "; ".join(failed)
    if setting == "unconfined":
        return Confinement(confining.UNCONFINED, rsync, f"rsync is not confined ({why})")
    return Confinement("", rsync, f"rsync cannot be confined to a home on this server ({why});"
                                  " SFTP and scp work")


_NAMES = {
    confining.LANDLOCK: f"Landlock, ABI {landlock.abi()}",
    confining.NAMESPACE: "a mount namespace",
}


def _unfit(way: str, homes: str) -> str:
    """Why it need not be tried, empty if it must be."""
    if sys.platform != "linux":
        return "Linux only"
    lies = os.path.realpath(homes) + "/"
    if any(lies.startswith(os.path.realpath(path) + "/") for path in confining.LIBRARIES):
        return "the homes lie among the libraries, which all may read"
    if way == confining.LANDLOCK and not landlock.abi():
        return "not in this kernel, or switched off"
    if way == confining.NAMESPACE and os.geteuid():
        return "for root only"
    return ""


async def _try(confinement: Confinement, homes: str) -> str:
    """Whether rsync runs, and sees nothing that is not its own; what went wrong, else empty."""
    status, said = await _run(confinement, homes, ["--version"])
    if status:
        return said or f"rsync --version ended with {status}"
    status, said = await _run(confinement, homes, ["--list-only", _FOREIGN])
    return "" if status else "it does not keep rsync from other folders"


async def _run(confinement: Confinement, home: str, arguments: Sequence[str]) -> tuple[int, str]:
    ours, its = os.pipe()
    try:
        child = await asyncio.create_subprocess_exec(
            *confinement.command(home, "read", 0, ours, arguments), pass_fds=(ours,),
            env=confining.ENVIRONMENT, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PROBE_TIME):
                said = (await child.communicate())[1]
        except TimeoutError:
            child.kill()
            await child.wait()
            return 1, "no answer"
        return child.returncode or 0, said.decode(errors="replace").strip().rpartition("\n")[2]
    finally:
        os.close(ours)
        os.close(its)
