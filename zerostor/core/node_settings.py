"""What [nodes] may say."""

from __future__ import annotations

from zerostor.core.errors import SetupError
from zerostor.core.settings import NodesSettings

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
