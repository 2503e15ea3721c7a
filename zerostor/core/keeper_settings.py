"""What [keeper] may say."""

from __future__ import annotations

import msgspec

from zerostor.core.errors import SetupError
from zerostor.core.setting_types import Seconds


class KeeperSettings(msgspec.Struct, frozen=True):
    """[keeper]. enabled: whether `up` runs one; grace: how long a store may be down until what it
    had counts as lost; removal_grace: how long a removed object can be restored.
    """

    enabled: bool = True
    grace: Seconds = Seconds(900.0)
    removal_grace: Seconds = Seconds(86400.0)


def check_keeper(keeper: KeeperSettings) -> None:
    """Raise SetupError for values of [keeper] that cannot work."""
    if keeper.grace < 0:
        raise SetupError("keeper.grace may not be negative")
    if keeper.removal_grace < 0:
        raise SetupError("keeper.removal_grace may not be negative")
