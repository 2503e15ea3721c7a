"""Secrets that must be nowhere, looked for in all that a run of `up` wrote."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil
import redis

READS = {"string": "GET", "hash": "HGETALL", "set": "SMEMBERS"}
RANGES = {"list": "LRANGE", "zset": "ZRANGE"}


def spellings(secret: str) -> list[bytes]:
    """How it may have been written: as it is, in hex, in base64; a key also as its bytes."""
    text = secret.encode()
    raw = [bytes.fromhex(secret)] if re.fullmatch(r"[0-9a-f]{64}", secret) else []
    return [text, *raw, text.hex().encode(), *(
        base64.b64encode(b"x" * shift + text)[4:-4] for shift in range(3))]


def leaks(secrets: Mapping[str, str], folder: Path, said: Mapping[str, str],
          own: Mapping[str, Path]) -> list[str]:
    """'NAME in PLACE' for each secret in a file below `folder` or in `said`, by place.

    own: the one file in which a secret may be.
    """
    places = {str(path.relative_to(folder)): path.read_bytes()
              for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()}
    places |= {place: text.encode(errors="surrogateescape") for place, text in said.items()}
    may = {name: str(path.relative_to(folder)) for name, path in own.items()}
    return [f"{name} in {place}" for name, secret in secrets.items()
            for place, text in places.items()
            if may.get(name) != place and any(form in text for form in spellings(secret))]


def all_of_redis(socket: Path) -> str:
    """Every key with its value, as Redis has them; what it was told by whom."""
    with redis.Redis(unix_socket_path=str(socket)) as client:
        told = [client.execute_command("CLIENT", "LIST"), client.execute_command("SLOWLOG", "GET")]
        for key in client.scan_iter(count=1000):
            kind = client.type(key).decode()
            if kind == "stream":
                value = client.execute_command("XRANGE", key, "-", "+")
            elif kind in RANGES:
                value = client.execute_command(RANGES[kind], key, 0, -1)
            else:
                value = client.execute_command(READS[kind], key)
            told.append((key, value))
    return repr(told)


def command_lines(processes: Iterable[psutil.Process]) -> str:
    """What everybody on this host sees of them."""
    return "\n".join(" ".join(process.cmdline()) for process in processes)
