"""The metadata behind its ports: one server and the master it names, or several."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import NamedTuple

from zerostor.config import Config
from zerostor.core.zdb_url import parse_zdb_url
from zerostor.log_ports import Replication, Roles, ServedLog
from zerostor.metadata.chosen import ChosenLog, ChosenMetadata
from zerostor.metadata.leading import LeadingMetadata
from zerostor.metadata.log import ZdbLog
from zerostor.metadata.replication import ZdbReplication
from zerostor.metadata.several import ANSWER_SECONDS, PATIENCE, MetadataServers
from zerostor.metadata.watch import watch_metadata
from zerostor.metadata.zdb import ZdbMetadata
from zerostor.ports import Clock, MetadataStore
from zerostor.resp_client import Address
from zerostor.stores import zdb_namespace
from zerostor.zdb_login import Login


class MetadataParts(NamedTuple):
    """What a process needs of the metadata: who leads, the records for who reads and for who
    writes, the bytes of the log. watch: tells in the log what is wrong with it.
    """

    roles: Roles
    read: MetadataStore
    written: MetadataStore
    log: ServedLog
    watch: Coroutine[None, None, object]


def metadata_parts(config: Config, clock: Clock) -> MetadataParts:
    """All of it, for one server or several."""
    url, *others = metadata_urls(config)
    records = partial(_records_at, config)
    if not others:
        beside, roles = records(url), replication_at(config, url)
        return MetadataParts(roles, beside, LeadingMetadata(beside, roles, records, clock),
                         log_at(config, url), watch_metadata(beside, clock))
    servers = MetadataServers({each: replication_at(config, each, quick=True)
                               for each in (url, *others)}, clock)
    records = partial(_records_at, config, patience=1.0)
    return MetadataParts(servers, ChosenMetadata(servers, records, writes=False),
                     ChosenMetadata(servers, records, writes=True),
                     ChosenLog(servers, partial(log_at, config)), servers.choice())


def metadata_urls(config: Config) -> tuple[str, ...]:
    """Where the metadata servers of this configuration are."""
    embedded = config.metadata.embedded
    return (f"unix://{config.paths.zdb_socket}",) if embedded else config.metadata.url


def replication_at(config: Config, url: str, *, quick: bool = False) -> Replication:
    """What the metadata server at `url` says of masters and slaves. quick: or that it is gone."""
    place = _server_at(config, url)
    if quick:
        return ZdbReplication(*place, timeout=ANSWER_SECONDS, patience=PATIENCE)
    return ZdbReplication(*place)


def _records_at(config: Config, url: str, patience: float | None = None) -> ZdbMetadata:
    address, login = _server_at(config, url)
    return ZdbMetadata(address, namespace=login.namespace, password=login.password or None,
                       patience=patience)


def log_at(config: Config, url: str) -> ZdbLog:
    """The metadata log of the server at `url`."""
    return ZdbLog(*_server_at(config, url))


def _server_at(config: Config, url: str) -> tuple[Address, Login]:
    socket = Path(url.removeprefix("unix://")) if url.startswith("unix://") else None
    # That of the embedded server, mode 0600, asks for no password.
    own = config.metadata.embedded and socket == config.paths.zdb_socket
    password = "" if own else config.metadata.password.reveal()
    if socket is not None:
        return Address(unix=socket), Login(password=password)
    place = parse_zdb_url(url)
    return zdb_namespace.address_of(place), Login(place.namespace, password)
