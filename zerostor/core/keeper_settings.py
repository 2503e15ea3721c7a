"""What [keeper] may say."""

from __future__ import annotations

import msgspec

from zerostor.core.errors import SetupError
from zerostor.core.setting_types import Seconds


class KeeperSettings(msgspec.Struct, frozen=True):
    """[keeper]. enabled: whether `up` runs one; grace: how long a store may be down until what it
    had counts as lost.
    """

    enabled: bool = True
    grace: Seconds = Seconds(900.0)


def check_keeper(keeper: KeeperSettings) -> None:
    """Raise SetupError for values of [keeper] that cannot work."""
    if keeper.grace < 0:
        raise SetupError("keeper.grace may not be negative")
