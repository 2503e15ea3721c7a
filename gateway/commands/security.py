"""Who asks: what tells it, for the security mode of the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.attempts import Attempts
from gateway.caller import Everybody, SecretHolders, Security
from zerostor.core.errors import SetupError
from zerostor.core.settings import KEYS_MODE, SECRET_MODE

if TYPE_CHECKING:
    from zerostor.config import Config
    from zerostor.wiring import Parts


def security_of(config: Config, parts: Parts) -> Security:
    """The mode of a gateway. Raises SetupError."""
    mode = config.gateway.security
    if mode == KEYS_MODE:
        raise SetupError("gateway.security = \"keys\" is not there yet")
    if mode == SECRET_MODE:
        return SecretHolders(config.gateway.secret, Attempts(parts.clock))
    return Everybody()
