"""Sizes, times and addresses as people write them in settings and on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from zerostor.core.errors import SetupError

SIZES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
TIMES = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)\s*([a-zA-Z]*)", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]|", re.ASCII)


class Address(NamedTuple):
    """Where a server listens. An empty host means every address of this machine."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def reachable(self) -> Address:
        """The same with a host that a client on this machine can connect to."""
        everywhere = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
        return Address(everywhere.get(self.host, self.host), self.port)


def parse_size(text: str | int) -> int:
    """Bytes. "100MB" is 100,000,000 and "16MiB" 16,777,216; a bare number is bytes.

    Raises SetupError, also for "16M", which means one to some people and the other to the rest.
    """
    found = _QUANTITY.fullmatch(str(text).strip())
    scale = SIZES.get(found[2].lower()) if found else None
    if found is None or scale is None:
        raise SetupError(f"{text!r} is not a size: write bytes, or a unit as in 100MB or 16MiB")
    size = Decimal(found[1]) * scale
    if size != int(size) or size >= 2**63:
        raise SetupError(f"{text!r} is not a whole number of bytes below 8 EiB")
    return int(size)


def parse_seconds(text: str | float) -> float:
    """Seconds. "500ms", "30s", "5m", "2h", "1d"; a bare number is seconds. Raises SetupError."""
    found = _QUANTITY.fullmatch(str(text).strip())
    scale = TIMES.get(found[2].lower()) if found else None
    if found is None or scale is None:
        raise SetupError(f"{text!r} is not a time: write seconds, or a unit as in 500ms, 30s or 5m")
    return float(found[1]) * scale


def parse_address(text: str) -> Address:
    """HOST:PORT, [IPV6]:PORT or :PORT. Port 0 lets the system choose. Raises SetupError."""
    host, colon, port = text.strip().rpartition(":")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else -1
    if not colon or not 0 <= number <= 65535 or not _HOST.fullmatch(host):
        raise SetupError(f"{text!r} is not an address: write HOST:PORT, as in 127.0.0.1:8080")
    return Address(host.strip("[]"), number)


def size_text(size: float) -> str:
    """Bytes for a person, decimal units: "999 B", "1.2 kB", "104.9 MB"."""
    if size < 1000:
        return f"{size:.0f} B"
    unit = "kB"
    for unit in ("kB", "MB", "GB", "TB", "PB"):  # noqa: B007
        size /= 1000
        if size < 999.95:
            break
    return f"{size:.1f} {unit}"


def seconds_text(seconds: float) -> str:
    """A time for a person: "0.25 s", "42 s", "3 m 05 s", "2 h 10 m", "5 d 3 h"."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} m"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def date_text(seconds: float) -> str:
    """Seconds since 1970 as people read them, in UTC; as they are where no date has so many."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f} s since 1970"
