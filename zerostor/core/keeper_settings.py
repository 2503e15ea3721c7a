"""What [keeper] may say."""

from __future__ import annotations

import msgspec

from zerostor.core.errors import SetupError
from zerostor.core.setting_types import Seconds, Size

REPAIRS_MAX = 64


class KeeperSettings(msgspec.Struct, frozen=True):
    """[keeper]. enabled: whether `up` runs one; grace: how long a store may be down until what it
    had counts as lost; removal_grace: how long a removed object can be restored. repairs: how many
    run at once; repair_rate: bytes a second that they may read together, 0 for no limit. scrub: in
    which time each byte is read at the latest, 0 for never; scrub_rate: bytes a second that it may
    read, 0 for no limit; orphans: what becomes of shards that no record names, "list" or "remove".
    """

    enabled: bool = True
    grace: Seconds = Seconds(900.0)
    move_rate: Size = Size(0)
    removal_grace: Seconds = Seconds(86400.0)
    repairs: int = 3
    repair_rate: Size = Size(0)
    scrub: Seconds = Seconds(7 * 86400.0)
    scrub_rate: Size = Size(200_000_000)
    orphans: str = "list"


def check_keeper(keeper: KeeperSettings) -> None:
    """Raise SetupError for values of [keeper] that cannot work."""
    if keeper.grace < 0:
        raise SetupError("keeper.grace may not be negative")
    if keeper.move_rate < 0:
        raise SetupError("keeper.move_rate may not be negative")
    if keeper.removal_grace < 0:
        raise SetupError("keeper.removal_grace may not be negative")
    if not 1 <= keeper.repairs <= REPAIRS_MAX:
        raise SetupError(f"keeper.repairs is 1 to {REPAIRS_MAX}")
    if keeper.repair_rate < 0:
        raise SetupError("keeper.repair_rate may not be negative")
    if keeper.scrub < 0 or keeper.scrub_rate < 0:
        raise SetupError("keeper.scrub and keeper.scrub_rate may not be negative")
    if keeper.orphans not in ("list", "remove"):
        raise SetupError('keeper.orphans is "list" or "remove"')
