"""Tells of a certificate that is about to expire: a month, a week and a day before, and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerostor.core.event_texts import certificate, certificate_renewed
from zerostor.event_ports import EventLog
from zerostor.ports import Clock

if TYPE_CHECKING:
    # What reads certificates costs memory, and most gateways have none.
    from gateway.tls import Certificates

DAYS = (0, 1, 7, 30)
LOOK_SECONDS = 60.0


async def watch_expiry(certificates: Certificates, events: EventLog, clock: Clock) -> None:
    """Until cancelled."""
    while True:
        tell_expiry(certificates, events, clock.now())
        await clock.sleep(LOOK_SECONDS)


def tell_expiry(certificates: Certificates, events: EventLog, now: float) -> None:
    """Look once. now: epoch seconds."""
    left, place = certificates.expires - now, certificates.place
    near = next((days for days in DAYS if left <= days * 86_400), None)
    event = certificate_renewed(place) if near is None else certificate(place, left)
    events.change(f"certificate {place}", "" if near is None else f"{near} days", event)
