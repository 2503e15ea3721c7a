"""What [events] may say."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from zerostor.core.errors import SetupError
from zerostor.core.events import SEVERITIES
from zerostor.core.setting_types import Seconds, Secret, Urls

ROWS_MIN, ROWS_MAX = 100, 10_000_000
WEBHOOKS_MAX = 8
SECRET_MIN = 16


class EventsSettings(msgspec.Struct, frozen=True):
    """[events]. period: how long normal ones are gathered before they are told; 0: not at all.

    keep, rows: of each severity, the eldest and how many. forecast: how long before a store is full
    one is warned. lag: how far a slave may be behind. webhook: addresses that are told of events
    of `webhook_severity` or worse; secret: what they are signed with.
    """

    period: Seconds = Seconds(60.0)
    keep: Seconds = Seconds(90 * 86_400.0)
    rows: int = 50_000
    forecast: Seconds = Seconds(14 * 86_400.0)
    lag: Seconds = Seconds(60.0)
    webhook: Urls = Urls(())
    webhook_severity: str = "warning"
    secret_file: str = ""
    secret: Secret = Secret()


def check_events(events: EventsSettings) -> None:
    """Raise SetupError for values of [events] that cannot work."""
    for name in ("period", "forecast"):
        if getattr(events, name) < 0:
            raise SetupError(f"events.{name} may not be negative")
    for name in ("keep", "lag"):
        if getattr(events, name) < 1:
            raise SetupError(f"events.{name} is at least a second")
    if not ROWS_MIN <= events.rows <= ROWS_MAX:
        raise SetupError(f"events.rows is {ROWS_MIN} to {ROWS_MAX}, not {events.rows}")
    if events.webhook_severity not in list(SEVERITIES):
        raise SetupError(f"events.webhook_severity is {', '.join(SEVERITIES)}")
    if events.secret and len(events.secret.reveal()) < SECRET_MIN:
        raise SetupError(f"the secret of the webhooks is shorter than {SECRET_MIN} characters")
    if len(events.webhook) > WEBHOOKS_MAX:
        raise SetupError(f"events.webhook names more than {WEBHOOKS_MAX} addresses")
    for url in events.webhook:
        _check_webhook(url)


def _check_webhook(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or any(letter.isspace() or not letter.isprintable() for letter in url):
        raise SetupError("events.webhook is an address, as https://hooks.example.org/zerostor")
    if parts.username is not None or parts.fragment:
        raise SetupError("events.webhook may have no user, password or # in it")
