"""What [telemetry] may say."""

from __future__ import annotations

from zerostor.core.errors import SetupError
from zerostor.core.node_chunk import CHUNK_SIZES
from zerostor.core.settings import TelemetrySettings, nearest
from zerostor.core.spread import SpreadRules
from zerostor.core.units import parse_address

COPIES_MAX = 16
CHUNK_MIN = 512
LOCAL = ("keep", "until-spread")


def check_telemetry(telemetry: TelemetrySettings) -> None:
    """Raise SetupError for values of [telemetry] that cannot work."""
    if not 1 <= telemetry.copies <= COPIES_MAX:
        raise SetupError(f"telemetry.copies is {telemetry.copies}; it may be 1 to {COPIES_MAX}")
    if telemetry.local not in LOCAL:
        raise SetupError(f"telemetry.local is {telemetry.local!r}{nearest(telemetry.local, LOCAL)}")
    if telemetry.local != "keep" and telemetry.copies < 2:
        raise SetupError("telemetry.local = \"until-spread\" with telemetry.copies = 1 would leave"
                         " one copy of each chunk, on one node")
    for name, size in (("text_chunk", telemetry.text_chunk), ("chunk", telemetry.chunk)):
        if not CHUNK_MIN <= size <= CHUNK_SIZES[-1]:
            raise SetupError(f"telemetry.{name} is {size}; it may be {CHUNK_MIN} to"
                             f" {CHUNK_SIZES[-1]}")
    for name, seconds in (("grace", telemetry.grace), ("check_every", telemetry.check_every)):
        if seconds < 1:
            raise SetupError(f"telemetry.{name} is {seconds:g} s; the least is 1 s")
    if telemetry.keep < 0 or telemetry.rewrites_per_day < 1:
        raise SetupError("telemetry.keep may not be negative, telemetry.rewrites_per_day is 1 or"
                         " more")
    if telemetry.console:
        parse_address(telemetry.console)


def rules_of(telemetry: TelemetrySettings) -> SpreadRules:
    """As the engine takes them."""
    return SpreadRules(telemetry.copies, telemetry.grace, telemetry.check_every, telemetry.keep,
                       telemetry.local != "keep", float(telemetry.rewrites_per_day))


