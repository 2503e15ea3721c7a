"""Who asks: what tells it, for the security mode of the settings."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

from gateway.allow_list import AllowList
from gateway.attempts import Attempts
from gateway.caller import Everybody, SecretHolders, Security, SignedIn
from gateway.commands.options import given
from zerostor.core.event_texts import logins_refused
from zerostor.core.settings import KEYS_MODE, SECRET_MODE, is_loopback
from zerostor.engine.sessions import Sessions

if TYPE_CHECKING:
    from zerostor.config import Config
    from zerostor.wiring import Parts


class Doors(NamedTuple):
    """The part of gateway.services.Services that is about who asks."""

    security: Security
    sessions: Sessions | None
    known: AllowList | None
    attempts: Attempts
    public_key: bytes


@contextlib.asynccontextmanager
async def doors_of(config: Config, parts: Parts) -> AsyncIterator[Doors]:
    """The security mode of a gateway. Raises SetupError, BackendError."""
    from zerostor import wiring
    from zerostor.session_wiring import build_sessions

    mode, attempts = config.gateway.security, Attempts(
        parts.clock, lambda address: parts.events.append(logins_refused(address)))
    signer = wiring.identity(config)
    if mode == KEYS_MODE:
        known = AllowList(config.keys_file, parts.clock, given(config))
        async with build_sessions(config, signer, known, parts.clock,
                                  parts.random_bytes) as sessions:
            security = SignedIn(sessions, known, attempts)
            yield Doors(security, sessions, known, attempts, signer.public_key)
        return
    holders = SecretHolders(config.gateway.secret, attempts) if mode == SECRET_MODE else None
    yield Doors(holders or Everybody(), None, None, attempts, signer.public_key)


def require_keys(config: Config) -> None:
    """Raise SetupError where the list of keys is needed and cannot be read."""
    if config.gateway.security == KEYS_MODE:
        from zerostor.clock import SystemClock

        AllowList(config.keys_file, SystemClock(), given(config))


def access_line(config: Config) -> str:
    """Who may use it, for the start screen; empty where only programs on this host reach it."""
    if config.gateway.security == SECRET_MODE:
        return "secret: for who has it"
    if config.gateway.security == KEYS_MODE:
        from zerostor import wiring

        key = wiring.identity(config).public_key.hex()
        return f"keys: those in {config.keys_file}; its own is {key}"
    if is_loopback(config.gateway.listen.host):
        return ""
    return "public: whoever reaches it may store and operate; gateway.security shuts it"
