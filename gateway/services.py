"""What the HTTP process works with: ports and use cases, handed in by the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from gateway.allow_list import AllowList
from gateway.attempts import Attempts
from gateway.caller import Security
from gateway.content import ANY_HOST, Content
from gateway.control_link import ControlLink
from gateway.figures import Figures
from gateway.home_link import HomeLink
from gateway.leases import Leases
from gateway.role import RoleWatch
from gateway.waiters import Waiters
from gateway.wire import Wire
from zerostor.core.cluster_token import ClusterKey
from zerostor.core.settings import StoreSettings
from zerostor.engine.archivist import Archivist
from zerostor.engine.audit import Audit
from zerostor.engine.catalog import Catalog
from zerostor.engine.check import Checker
from zerostor.engine.event_watch import EventWatch
from zerostor.engine.pool import Policy, StorePool
from zerostor.engine.read import Reader
from zerostor.engine.recent import RecentJobs
from zerostor.engine.removal import Removal
from zerostor.engine.repair import Repairer
from zerostor.engine.sessions import Sessions
from zerostor.event_ports import EventLog
from zerostor.keeper_ports import Board
from zerostor.ports import Clock, JobQueue, MetadataStore, RandomBytes, Spool
from zerostor.store_ports import StoreRoll


@dataclass(frozen=True)
class Cluster:
    """What a gateway is to workers of other hosts. url: where they reach it."""

    key: ClusterKey
    leases: Leases
    url: str


@dataclass(frozen=True)
class Services:
    """One of each. max_upload: bytes; public_url: what links start with, or empty.

    cluster: None on a host that is alone. archivist: None where the log is kept by nobody.
    security: tells who asks. sessions, known: None where nobody signs in. attempts: wrong
    ones, counted. public_key: what this gateway signs with. ssh_admin: as in the settings.
    """

    stores: StorePool
    roll: StoreRoll
    policies: Mapping[str, Policy]
    metadata: MetadataStore
    queue: JobQueue
    board: Board
    spool: Spool
    catalog: Catalog
    reader: Reader
    checker: Checker
    repairer: Repairer
    removal: Removal
    waiters: Waiters
    role: RoleWatch
    recent: RecentJobs
    events: EventLog
    clock: Clock
    random_bytes: RandomBytes
    homes: HomeLink
    nodes: ControlLink
    security: Security
    sessions: Sessions | None
    known: AllowList | None
    attempts: Attempts
    public_key: bytes
    ssh_admin: str
    max_upload: int
    public_url: str
    wire: Wire
    cluster: Cluster | None = None
    archivist: Archivist | None = None
    watch: EventWatch | None = None
    content: Content = ANY_HOST
    audit: Audit | None = None
    figures: Figures = field(default_factory=Figures)

    @property
    def store_settings(self) -> tuple[StoreSettings, ...]:
        """Of the stores that there are now."""
        return tuple(self.roll.settings)


SERVICES: web.AppKey[Services] = web.AppKey("services", Services)


def services_of(request: web.Request) -> Services:
    """The services of the application that `request` came to."""
    return request.app[SERVICES]
