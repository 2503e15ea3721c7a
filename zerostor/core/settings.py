"""The settings as values: their names, types and defaults, and the relations between them.

The classes are the schema: `zerostor.config` reads TOML and environment by walking their fields.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import urllib.parse
from collections.abc import Iterable

import msgspec

from zerostor.core.errors import SetupError
from zerostor.core.event_settings import EventsSettings
from zerostor.core.keeper_settings import KeeperSettings
from zerostor.core.setting_types import Networks, Seconds, Secret, Size, Urls
from zerostor.core.units import Address
from zerostor.core.zdb_url import ZdbPlace, parse_zdb_url

EMBEDDED = "embedded"
DEFAULT_POOL = "main"
SECRET_MIN = 16
"""Characters of the secret of a cluster, or of a gateway."""
PUBLIC_MODE, SECRET_MODE, KEYS_MODE = "public", "secret", "keys"
"""Values of gateway.security."""
REDIS_SCHEMES = ("redis", "rediss", "unix")
METADATA_SCHEMES = ("zdb", "zdb+unix", "unix")
STORE_SCHEMES = ("dir", "zdb", "zdb+unix", "node")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)
_USER_PART = re.compile(r"(?<=://)([^/@]*)@")


class GatewaySettings(msgspec.Struct, frozen=True):
    """[gateway]. public_url: what links start with; the address of the request where empty.

    tls_cert, tls_key: PEM files, read again when they change. hsts: for how long browsers may come
    by https only. trusted_proxies: whose forwarded headers are believed. security: who may
    ask for what is not public: everybody ("public"), who has the secret, or whose key is in
    keys_file, DATA/keys where that is empty. content_url: http(s)://HOST that serves objects and
    nothing else, so that what is stored cannot act as the gateway; inline: show also types that
    may act in a browser, which are saved otherwise.
    """

    listen: Address = Address("127.0.0.1", 8080)
    public_url: str = ""
    max_upload: Size = Size(100_000_000)
    tls_cert: str = ""
    tls_key: str = ""
    hsts: Seconds = Seconds(0.0)
    trusted_proxies: Networks = Networks(())
    security: str = PUBLIC_MODE
    secret_file: str = ""
    secret: Secret = Secret()
    keys_file: str = ""
    content_url: str = ""
    inline: bool = False


class LimitsSettings(msgspec.Struct, frozen=True):
    """[limits]; 0 is for none. What counts by address does not count programs on this host.

    connections: of a gateway process; address_connections: of one address. header_timeout: for a
    handshake, for headers, and between requests. min_rate: bytes a second, on average over half a
    minute, of a body. long_polls, address_long_polls: requests that wait. uploads: of an address
    in a minute; key_uploads: of a key. spool_share: per cent of its disk that uploads which wait
    may fill. queue_depth: jobs that may wait for a worker.
    """

    connections: int = 16_384
    address_connections: int = 1024
    header_timeout: Seconds = Seconds(30.0)
    min_rate: Size = Size(1024)
    long_polls: int = 12_000
    address_long_polls: int = 512
    uploads: int = 1200
    key_uploads: int = 12_000
    spool_share: int = 80
    queue_depth: int = 100_000


class AuditSettings(msgspec.Struct, frozen=True):
    """[audit]. log: "writes", what changes something, signs in or was refused; "all"; or "off".

    size: of one file of the log; keep: how many lie beside the one that is written.
    """

    log: str = "writes"
    size: Size = Size(16_000_000)
    keep: int = 8


class RedisSettings(msgspec.Struct, frozen=True):
    """[redis]. url never carries a password; `password` does."""

    url: str = EMBEDDED
    password_file: str = ""
    password: Secret = Secret()

    @property
    def embedded(self) -> bool:
        """True when `zerostor up` runs the server."""
        return self.url == EMBEDDED


class MetadataSettings(msgspec.Struct, frozen=True):
    """[metadata]. url: zdb://HOST:PORT[/NAMESPACE], unix:///PATH, or embedded. Of several, which
    are a master and its slaves, the one that leads is written to.

    master: the metadata server that this one follows, in the same forms; empty for a master. role:
    master or slave, for who likes to see it written; it follows from `master`.
    listen: HOST:PORT where the embedded server is reached from other hosts, which need the
    password; empty for its unix socket only. archive_every: time between copies of the newest
    records in the pool; 0 for none.
    """

    url: Urls = Urls((EMBEDDED,))
    role: str = ""
    master: str = ""
    listen: str = ""
    archive_every: Seconds = Seconds(300.0)
    password_file: str = ""
    password: Secret = Secret()

    @property
    def embedded(self) -> bool:
        """True when `zerostor up` runs the server."""
        return self.url == (EMBEDDED,)

    @property
    def places(self) -> str:
        """All of `url`, for messages."""
        return ", ".join(self.url)


class Policy(msgspec.Struct, frozen=True):
    """[policy.NAME]. durable: shards on disk before we say stored; 0 means data + 2. private: the
    hashes of all that is stored under it are keyed.
    """

    data: int = 16
    parity: int = 4
    durable: int = 0
    pool: str = DEFAULT_POOL
    private: bool = False

    @property
    def total(self) -> int:
        """Shards of an object."""
        return self.data + self.parity


class StoreSettings(msgspec.Struct, frozen=True):
    """[[store]]. url: dir:///FOLDER, node://NAME, or a 0-db namespace in user mode as zdb_url has
    it. hub: for a node, the unix socket of its hub; that of this DATA where empty. Labels: host and
    site for any store; owner as well for one that somebody else may take away.

    A real 0-db survives a power cut only if it was started with --sync. Its password comes from
    password_file, or ZEROSTOR_STORE_NAME_PASSWORD in the environment.
    """

    name: str = ""
    url: str = ""
    pool: str = DEFAULT_POOL
    labels: dict[str, str] = {}
    password_file: str = ""
    password: Secret = Secret()
    hub: str = ""

    @property
    def node(self) -> str:
        """The node of a node:// store, else empty."""
        return self.url.removeprefix("node://") if self.url.startswith("node://") else ""

    @property
    def folder(self) -> str:
        """The folder of a dir:// store, else empty."""
        return self.url.removeprefix("dir://") if self.url.startswith("dir://") else ""

    @property
    def namespace(self) -> ZdbPlace | None:
        """The namespace of a zdb:// store, else None. Raises SetupError."""
        return None if self.folder or self.node else parse_zdb_url(self.url)

    @property
    def place(self) -> tuple[str, ...]:
        """Equal for two stores that would be the same. Raises SetupError."""
        found = self.namespace
        if found is None:
            return (self.url.rstrip("/"),)
        return (found.server, found.namespace)

    @property
    def host(self) -> str:
        """What is lost together with it: its label, else its 0-db server, else itself."""
        found = self.namespace
        return self.labels.get("host") or (self.name if found is None else found.server)


class WorkerSettings(msgspec.Struct, frozen=True):
    """[worker]. concurrency: objects that one worker process stores at a time."""

    processes: int = 1
    concurrency: int = 4


class SpoolSettings(msgspec.Struct, frozen=True):
    """[spool]. directory: where uploads wait; DATA/spool where empty."""

    directory: str = ""


class ClusterSettings(msgspec.Struct, frozen=True):
    """[cluster]. advertise: where other hosts reach this gateway, http://HOST:PORT.

    secret: what all hosts of a cluster share; without one this host is alone.
    """

    advertise: str = ""
    secret_file: str = ""
    secret: Secret = Secret()


class SshSettings(msgspec.Struct, frozen=True):
    """[ssh]. directory: where the homes are; DATA/homes where empty.

    home_limit, quota: of a home for which nothing else was said. rsync: "confined" by the kernel,
    "unconfined" on a system that cannot, or "off". admin: who may change homes over HTTP, programs
    on this host ("local") or "anyone". connections: in all; user_connections: of one user.
    """

    enabled: bool = False
    listen: Address = Address("127.0.0.1", 2222)
    directory: str = ""
    home_limit: Size = Size(1_000_000_000)
    quota: str = "refuse"
    rsync: str = "confined"
    admin: str = "local"
    connections: int = 300
    user_connections: int = 32
    login_timeout: Seconds = Seconds(30.0)


class NodesSettings(msgspec.Struct, frozen=True):
    """[nodes]. heartbeat: a node that has nothing to say says so this often; it is gone after 3.

    connections: in all; address_connections: of one address, which may be that of a whole house.
    writes_per_day: chunks that a node takes within 24 hours, so that its flash lasts; 0: no limit.
    """

    enabled: bool = False
    listen: Address = Address("127.0.0.1", 7777)
    heartbeat: Seconds = Seconds(10.0)
    connections: int = 1000
    address_connections: int = 500
    writes_per_day: int = 0


class TelemetrySettings(msgspec.Struct, frozen=True):
    """[telemetry]. copies: of a chunk, on so many nodes. text_chunk, chunk: bytes of a chunk of a
    stream of text and of bytes.

    grace: how long a node may be away until its chunks go to others. check_every: how often each
    copy is read by its node. keep: how long telemetry stays, 0 for good. local: "keep" the copy of
    the hub itself, or "until-spread". rewrites_per_day: of its whole flash, that telemetry may cost
    a node. console: HOST:PORT of the line protocol; empty for none.
    """

    copies: int = 3
    grace: Seconds = Seconds(300.0)
    check_every: Seconds = Seconds(86_400.0)
    keep: Seconds = Seconds(0.0)
    local: str = "keep"
    text_chunk: Size = Size(5120)
    chunk: Size = Size(16_328)
    rewrites_per_day: int = 10
    console: str = ""


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "gateway": GatewaySettings,
    "redis": RedisSettings,
    "metadata": MetadataSettings,
    "worker": WorkerSettings,
    "spool": SpoolSettings,
    "cluster": ClusterSettings,
    "ssh": SshSettings,
    "nodes": NodesSettings,
    "telemetry": TelemetrySettings,
    "keeper": KeeperSettings,
    "events": EventsSettings,
    "limits": LimitsSettings,
    "audit": AuditSettings,
}
"""Tables by name; [policy.NAME] and [[store]] come on top."""


def is_name(text: str) -> bool:
    """Whether it may name a store, a policy or a node."""
    return _NAME.fullmatch(text) is not None


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean X?' for the closest of `known`, else the list of them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else f"; there is {', '.join(names)}"


def split_password(url: str) -> tuple[str, str]:
    """(url without its password, the password or ''). The user name stays in the url."""
    found = _USER_PART.search(url)
    if not found or ":" not in found[1]:
        return url, ""
    user, _, password = found[1].partition(":")
    return _USER_PART.sub(f"{user}@" if user else "", url, count=1), urllib.parse.unquote(password)


def join_password(url: str, password: Secret) -> str:
    """The reverse of `split_password`, for the client that connects; show it to nobody."""
    if not password:
        return url
    scheme, separator, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{user if at else ''}:{_quoted(password)}@{place}"


def _quoted(password: Secret) -> str:
    return urllib.parse.quote(password.reveal(), safe="")


def is_loopback(host: str) -> bool:
    """True if only programs on this machine can connect there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_worker(worker: WorkerSettings) -> None:
    """Raise SetupError for counts that are none or absurd."""
    for key, count, most in (
        ("processes", worker.processes, 256),
        ("concurrency", worker.concurrency, 1024),
    ):
        if not 1 <= count <= most:
            raise SetupError(f"worker.{key} must be 1 to {most}, not {count}")


def check_cluster(cluster: ClusterSettings) -> None:
    """Raise SetupError for a secret that could be guessed, or an address that is none."""
    if cluster.secret and len(cluster.secret.reveal()) < SECRET_MIN:
        raise SetupError(f"the secret of the cluster is shorter than {SECRET_MIN} characters: make"
                         " one with `openssl rand -hex 24`, the same on every host")
    if cluster.advertise and not re.fullmatch(r"https?://[^\s/@]+[^\s@]*", cluster.advertise):
        raise SetupError("cluster.advertise must be an address, as http://10.0.0.5:8080")
    if cluster.advertise and not cluster.secret:
        raise SetupError("cluster.advertise is of no use without cluster.secret_file")
