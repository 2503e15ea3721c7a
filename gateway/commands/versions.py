"""Programs beside us that are too old: told at the start, where somebody looks."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from zerostor.config import Config

SAFE_RSYNC = (3, 4)
"""The first without the holes of January 2025 (CVE-2024-12084 to 12088, and 12747)."""
SECONDS = 10.0
_VERSION = re.compile(r"rsync +version v?([0-9]{1,4})\.([0-9]{1,4})[^ ]{0,32}")


def warn_of_old(config: Config) -> None:
    """Print a line for each."""
    told = []
    if not config.redis.embedded:
        # Megabytes that `up` has no other use for.
        import asyncio

        from zerostor.queue.redis_version import old_redis

        told.append(asyncio.run(old_redis(config.redis_login)))
    if config.ssh.enabled and config.ssh.rsync != "off":
        told.append(old_rsync())
    for line in filter(None, told):
        click.echo(f"warning: {line}", err=True)


def old_rsync() -> str:
    """A sentence about an rsync with holes that are known; empty for a good one, and for none."""
    program = shutil.which("rsync")
    if program is None:
        return ""
    try:
        text = subprocess.run([program, "--version"], capture_output=True, text=True,  # noqa: S603
                              timeout=SECONDS, check=False, errors="replace").stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = _VERSION.search(text)
    if found is None or (int(found[1]), int(found[2])) >= SAFE_RSYNC:
        return ""
    return (f"{found[0]} has known holes (CVE-2024-12084 and others), unless your distribution"
            f" mended it: they are gone with {SAFE_RSYNC[0]}.{SAFE_RSYNC[1]}.0, and ssh.rsync ="
            " \"off\" does without it")
