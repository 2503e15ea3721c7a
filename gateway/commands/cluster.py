"""What the commands of single processes share when there are several hosts."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from zerostor.core.units import Address

if TYPE_CHECKING:
    from gateway.services import Cluster
    from zerostor.config import Config
    from zerostor.gateway_ports import GatewayLink
    from zerostor.wiring import Parts


@contextlib.asynccontextmanager
async def links(config: Config) -> AsyncIterator[GatewayLink | None]:
    """HTTP to other gateways; None on a host that is alone, which then needs no client."""
    if not config.cluster.secret:
        yield None
        return
    from workers.gateway_link import HttpLink

    link = HttpLink()
    try:
        yield link
    finally:
        await link.close()


def cluster_of(config: Config, parts: Parts) -> Cluster | None:
    """What this gateway is to other hosts; None for one that is alone."""
    if not config.cluster.secret:
        return None
    from gateway.leases import Leases
    from gateway.services import Cluster
    from zerostor.core.cluster_token import ClusterKey

    return Cluster(ClusterKey(config.cluster.secret.reveal()),
                   Leases(parts.spool, parts.clock, parts.random_bytes), advertised(config))


def advertised(config: Config) -> str:
    """Where other hosts reach this gateway: as configured, else where it listens."""
    if config.cluster.advertise:
        return config.cluster.advertise
    listen = config.gateway.listen
    if listen.reachable != listen:
        listen = Address(_own_address(config), listen.port)
    return f"{'https' if config.gateway.tls_cert else 'http'}://{listen}"


def _own_address(config: Config) -> str:
    """The address of this host on the way to Redis, which every host of a cluster reaches."""
    redis = urlsplit(config.redis_url)
    if redis.scheme == "unix" or not redis.hostname:
        return "127.0.0.1"
    try:
        family, *_, address = socket.getaddrinfo(redis.hostname, redis.port or 6379,
                                                 type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing; the kernel picks the way
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()
