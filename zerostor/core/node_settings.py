"""What [nodes] may say."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from zerostor.core.errors import SetupError
from zerostor.core.settings import NodesSettings, StoreSettings

CONNECTIONS_MAX = 5000
HEARTBEAT_MAX = 3600


def check_nodes(nodes: NodesSettings) -> None:
    """Raise SetupError for values of [nodes] that leave no room, or that the link cannot carry."""
    if not 1 <= nodes.heartbeat <= HEARTBEAT_MAX or nodes.heartbeat % 1:
        raise SetupError(f"nodes.heartbeat is {nodes.heartbeat:g} s; it is whole seconds, 1 to"
                         f" {HEARTBEAT_MAX}")
    for name, number in (("connections", nodes.connections),
                         ("address_connections", nodes.address_connections)):
        if not 1 <= number <= CONNECTIONS_MAX:
            raise SetupError(f"nodes.{name} is {number}; it may be 1 to {CONNECTIONS_MAX}")
    if nodes.writes_per_day < 0:
        raise SetupError(f"nodes.writes_per_day is {nodes.writes_per_day}; 0 is for no limit")


def served(stores: Sequence[StoreSettings], nodes: NodesSettings, hub: str
           ) -> tuple[StoreSettings, ...]:
    """With the socket of the hub that serves each node: `hub`, that of this DATA, unless another is
    named. Raises SetupError where nobody would.
    """
    for store in stores:
        if store.node and not store.hub and not nodes.enabled:
            raise SetupError(f"store {store.name!r} is on node {store.node!r}, and nodes are off:"
                             " set enabled = true in [nodes]")
    return tuple(msgspec.structs.replace(store, hub=hub) if store.node and not store.hub else store
                 for store in stores)
