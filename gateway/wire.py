"""How the HTTP process meets the network: who may come, how, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.allowance import Allowance
from gateway.polls import Polls
from gateway.pressure import Pressure
from gateway.proxies import Proxies
from zerostor.core.settings import GatewaySettings, LimitsSettings
from zerostor.limit_ports import Buckets, MeasuredSpool
from zerostor.ports import Clock, JobQueue

if TYPE_CHECKING:
    # What reads certificates costs memory, and most gateways have none.
    from gateway.tls import Certificates


@dataclass(frozen=True)
class Wire:
    """One of each. uploads, key_uploads: of an address, and of a key that signed in.

    certificates: None without TLS. hsts: seconds for which browsers keep to https; 0 says nothing.
    """

    limits: LimitsSettings
    proxies: Proxies
    uploads: Allowance
    key_uploads: Allowance
    polls: Polls
    pressure: Pressure
    certificates: Certificates | None = None
    hsts: float = 0.0


def wire_of(gateway: GatewaySettings, limits: LimitsSettings, buckets: Buckets,
            queue: JobQueue, spool: MeasuredSpool, clock: Clock,
            certificates: Certificates | None = None) -> Wire:
    """As the settings say."""
    return Wire(
        limits, Proxies(gateway.trusted_proxies),
        Allowance(buckets, clock, limits.uploads, "upload",
                  "uploads a minute of one address are taken (limits.uploads)"),
        Allowance(buckets, clock, limits.key_uploads, "key-upload",
                  "uploads a minute of one key are taken (limits.key_uploads)"),
        Polls(limits.long_polls, limits.address_long_polls),
        Pressure(queue, spool, clock, limits), certificates, gateway.hsts)
