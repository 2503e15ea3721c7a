"""Configuration: one TOML file and the environment become one frozen Config.

The only reader of either. Stronger first: options of the command line, environment, file, defaults.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from zerostor.core.errors import SetupError
from zerostor.core.event_settings import EventsSettings, check_events
from zerostor.core.gateway_settings import check_audit, check_gateway, check_limits
from zerostor.core.keeper_settings import KeeperSettings, check_keeper
from zerostor.core.metadata_settings import check_listen, check_metadata, check_urls
from zerostor.core.node_settings import check_nodes, served
from zerostor.core.policy_settings import complete_policy
from zerostor.core.roll import rolled
from zerostor.core.setting_types import Secret, Urls
from zerostor.core.settings import (
    REDIS_SCHEMES,
    SECTIONS,
    AuditSettings,
    ClusterSettings,
    GatewaySettings,
    LimitsSettings,
    MetadataSettings,
    NodesSettings,
    Policy,
    RedisSettings,
    SpoolSettings,
    SshSettings,
    StoreSettings,
    TelemetrySettings,
    WorkerSettings,
    check_cluster,
    check_worker,
    join_password,
    nearest,
    split_password,
)
from zerostor.core.ssh_settings import check_ssh
from zerostor.core.store_settings import check_stores, check_url
from zerostor.core.telemetry_settings import check_telemetry
from zerostor.core.units import Address, parse_address
from zerostor.core.written import Written, fill
from zerostor.paths import Paths
from zerostor.private_socket import MADE
from zerostor.roll_file import RollFile, with_password

FILE_NAME = "zerostor.toml"
FILE_MAX = 1024 * 1024
DEFAULT_SERVER = "http://127.0.0.1:8080"
DEFAULT_STORES = 20
SOCKET_PATH_MAX = 103
"""Bytes of a unix socket's path on macOS; Linux has 107."""
_LONGEST_SOCKET = f"console.sock{MADE}"
"""Of all in that folder: as it is called until it is ready."""
_Guarded = TypeVar("_Guarded", RedisSettings, StoreSettings)
_Sealed = TypeVar("_Sealed", GatewaySettings, ClusterSettings,
                  EventsSettings)


class Config(msgspec.Struct, frozen=True):
    """The effective settings. source: the file they came from, None when there was none.

    own_stores: the stores are the 20 folders below DATA/stores that `zerostor up` starts by itself.
    store: those of the settings, as far as they were not removed, and those that were added.
    """

    paths: Paths
    source: Path | None
    own_stores: bool
    gateway: GatewaySettings
    redis: RedisSettings
    metadata: MetadataSettings
    policy: dict[str, Policy]
    store: tuple[StoreSettings, ...]
    worker: WorkerSettings
    spool: SpoolSettings
    cluster: ClusterSettings
    ssh: SshSettings
    nodes: NodesSettings
    telemetry: TelemetrySettings
    keeper: KeeperSettings
    events: EventsSettings
    limits: LimitsSettings
    audit: AuditSettings

    @property
    def redis_url(self) -> str:
        """What a client connects to, without the password (`redis.password`)."""
        return f"unix://{self.paths.redis_socket}" if self.redis.embedded else self.redis.url

    @property
    def homes(self) -> Path:
        """The folder of the SSH homes, one folder each."""
        return _absolute(Path(self.ssh.directory)) if self.ssh.directory else (
            self.paths.root / "homes")

    @property
    def keys_file(self) -> Path:
        """The list of keys that may sign in."""
        written = self.gateway.keys_file
        return _absolute(Path(written)) if written else self.paths.root / "keys"

    @property
    def redis_login(self) -> str:
        """`redis_url` with the password in it: for the client only, never for a log."""
        return join_password(self.redis_url, self.redis.password)


def load(
    root: Path | None = None,
    file: Path | None = None,
    *,
    listen: str | None = None,
    master: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Read and check everything; nothing is created. Raises SetupError with one clear sentence.

    root: the DATA folder, else $ZEROSTOR_DATA, else ./data. file: else $ZEROSTOR_CONFIG, else
    DATA/zerostor.toml if it is there. listen: replaces gateway.listen; master: metadata.master.
    """
    environ = os.environ if environ is None else environ
    root = _absolute(root or Path(environ.get("ZEROSTOR_DATA") or "data"))
    if file is None and environ.get("ZEROSTOR_CONFIG"):
        file = Path(environ["ZEROSTOR_CONFIG"])
    if file is None and (root / FILE_NAME).exists():
        file = root / FILE_NAME
    written = Written(str(file or ""), _text(file) if file else "", environ)
    _check_sections(written)
    gateway = _secret_read(fill(GatewaySettings, written, "gateway"), written, "gateway")
    if listen is not None:
        gateway = msgspec.structs.replace(gateway, listen=parse_address(listen))
    spool = fill(SpoolSettings, written, "spool")
    paths, nodes = _paths(root, spool, environ), fill(NodesSettings, written, "nodes")
    stores = served(_rolled(_stores(written, root), paths), nodes, str(paths.shards_socket))
    config = Config(
        paths=paths,
        source=_absolute(file) if file else None,
        own_stores="store" not in written.tree,
        gateway=gateway,
        redis=_redis(written, environ),
        metadata=_metadata(written, master),
        policy=_policies(written, stores),
        store=stores,
        worker=fill(WorkerSettings, written, "worker"),
        spool=spool,
        cluster=_secret_read(fill(ClusterSettings, written, "cluster"), written, "cluster"),
        ssh=fill(SshSettings, written, "ssh"),
        nodes=nodes,
        telemetry=fill(TelemetrySettings, written, "telemetry"),
        keeper=fill(KeeperSettings, written, "keeper"),
        events=_secret_read(fill(EventsSettings, written, "events"), written, "events"),
        limits=fill(LimitsSettings, written, "limits"),
        audit=fill(AuditSettings, written, "audit"),
    )
    check_gateway(config.gateway)
    check_limits(config.limits)
    check_audit(config.audit)
    check_worker(config.worker)
    check_ssh(config.ssh)
    check_nodes(config.nodes)
    check_telemetry(config.telemetry)
    check_keeper(config.keeper)
    check_events(config.events)
    check_cluster(config.cluster)
    return config


def server_address(environ: Mapping[str, str] | None = None) -> str:
    """Where the command line finds the gateway: $ZEROSTOR_SERVER, else this machine."""
    environ = os.environ if environ is None else environ
    return environ.get("ZEROSTOR_SERVER") or DEFAULT_SERVER


def stated_secret(environ: Mapping[str, str] | None = None) -> str:
    """The secret that scripts state for the gateway at `server_address`, or empty."""
    environ = os.environ if environ is None else environ
    return environ.get("ZEROSTOR_GATEWAY_SECRET", "").strip()


def user_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where the command line keeps what is this person's: $XDG_CONFIG_HOME or ~/.config."""
    environ = os.environ if environ is None else environ
    stated = environ.get("XDG_CONFIG_HOME", "")
    base = Path(stated) if os.path.isabs(stated) else Path(os.path.expanduser("~"), ".config")
    return base / "zerostor"


def effective(config: Config) -> dict[str, object]:
    """The settings as plain values by section; secrets are *** and empty ones left out."""
    plain: dict[str, object] = {
        "paths": _plain(config.paths),
        **{name: _plain(getattr(config, name)) for name in SECTIONS},
        "policy": {name: _plain(policy) for name, policy in config.policy.items()},
        "store": [_plain(store) for store in config.store],
    }
    return plain


def _plain(settings: msgspec.Struct) -> dict[str, object]:
    return dict(_plain_fields(settings))


def _plain_fields(settings: msgspec.Struct) -> Iterator[tuple[str, object]]:
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, Secret):
            value = "***" if value else ""
        if value in ("", {}, ()):
            continue
        if isinstance(value, tuple) and not isinstance(value, Address):
            value = value[0] if len(value) == 1 else list(value)
        yield name, str(value) if isinstance(value, (Address, Path)) else value


def _absolute(path: Path) -> Path:
    absolute = os.path.abspath(path)
    try:
        absolute.encode()
    except UnicodeEncodeError:
        # It would have to be told in messages, in JSON and to Redis.
        raise SetupError(f"{absolute!r} is not UTF-8: choose a folder with another name") from None
    return Path(absolute)


def _text(file: Path) -> str:
    try:
        with open(file, "rb") as source:
            text = source.read(FILE_MAX + 1)
        if len(text) > FILE_MAX:
            raise SetupError(f"{file} is larger than {FILE_MAX} bytes: that is no settings file")
        return text.decode("utf-8-sig")
    except OSError as error:
        raise SetupError(f"cannot read the settings in {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SetupError(f"{file} is not UTF-8 text: {error}") from error


def _check_sections(written: Written) -> None:
    known = (*SECTIONS, "policy", "store")
    for section in written.tree:
        if section not in known:
            place = written.place(section)
            raise SetupError(f"{place}: there is no such section{nearest(section, known)}")


def _with_password(settings: _Guarded, written: Written, *path: str) -> _Guarded:
    """Move a password to where it is kept: out of the url, or in from its file."""
    url, inside = _without_password(settings.url, written, *path)
    password = _password(settings.password or Secret(inside), settings.password_file, written,
                         *path)
    return msgspec.structs.replace(settings, url=url, password=password)


def _without_password(url: str, written: Written, *path: str) -> tuple[str, str]:
    """(url, password), where one may be in it: what the environment says is not in a file."""
    url, inside = split_password(url)
    if inside and not written.from_environment(*path, "url"):
        place = written.place(*path, "url")
        raise SetupError(f"{place} has a password in it; name a file with it in password_file")
    return url, inside


def _password(password: Secret, file: str, written: Written, *path: str) -> Secret:
    if file and not password:
        return _secret_in(file, written.place(*path, "password_file"))
    return password


def _secret_in(file: str, place: str) -> Secret:
    try:
        with open(file, encoding="utf-8") as source:
            return Secret(source.read(4096).strip())
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{place}: {error}") from error


def _secret_read(settings: _Sealed, written: Written, section: str) -> _Sealed:
    """With the secret out of its file, where it did not come from the environment."""
    if settings.secret_file and not settings.secret:
        secret = _secret_in(settings.secret_file, written.place(section, "secret_file"))
        if not secret:
            raise SetupError(f"{settings.secret_file} is empty: it is to have a secret")
        settings = msgspec.structs.replace(settings, secret=secret)
    return settings


def _stores(written: Written, root: Path) -> tuple[StoreSettings, ...]:
    tables = written.tree.get("store", [])
    if not isinstance(tables, list):
        raise SetupError(f"{written.place('store')}: write each store as its own [[store]]")
    stores = [fill(StoreSettings, written, "store", str(place)) for place in range(len(tables))]
    if "store" not in written.tree:
        names = [f"{number:02}" for number in range(DEFAULT_STORES)]
        stores = [StoreSettings(name, f"dir://{root}/stores/{name}") for name in names]
    stores = [
        _with_password(store, written, "store", str(place)) for place, store in enumerate(stores)
    ]
    check_stores(stores)
    return tuple(stores)


def _rolled(stores: tuple[StoreSettings, ...], paths: Paths) -> tuple[StoreSettings, ...]:
    """With what was said of stores since. Raises SetupError."""
    named = {store.name: store for store in stores}
    found = tuple(store if named.get(store.name) == store else with_password(store)
                  for store in rolled(stores, RollFile(paths.roll).read()))
    if found != stores:
        check_stores(found)
    return found


def _policies(written: Written, stores: tuple[StoreSettings, ...]) -> dict[str, Policy]:
    names = {"default": None} | dict.fromkeys(written.table("policy"))
    return {
        name: complete_policy(name, fill(Policy, written, "policy", name), stores) for name in names
    }


def _redis(written: Written, environ: Mapping[str, str]) -> RedisSettings:
    settings = fill(RedisSettings, written, "redis")
    place = written.place("redis", "url")
    if "url" not in written.table("redis") and environ.get("REDIS_URL"):
        place = "REDIS_URL"
        url, inside = split_password(environ["REDIS_URL"])
        password = settings.password or Secret(inside)
        settings = msgspec.structs.replace(settings, url=url, password=password)
    settings = _with_password(settings, written, "redis")
    if not settings.embedded:
        check_url(place, settings.url, REDIS_SCHEMES)
    return settings


def _metadata(written: Written, master: str | None) -> MetadataSettings:
    settings = fill(MetadataSettings, written, "metadata")
    found = [_without_password(url, written, "metadata") for url in settings.url]
    inside = max((password for _, password in found), default="")
    if any(password not in ("", inside) for _, password in found):
        raise SetupError(f"{written.place('metadata', 'url')}: several metadata servers, a master"
                         " and its slaves, have the same password")
    settings = msgspec.structs.replace(
        settings, url=Urls(tuple(url for url, _ in found)),
        password=_password(settings.password or Secret(inside), settings.password_file, written,
                           "metadata"))
    check_urls(written.place("metadata", "url"), settings.url)
    place = written.place("metadata", "master")
    url, inside = split_password(settings.master if master is None else master)
    if master is not None:
        place = "--slave-of"
        if inside:
            raise SetupError("--slave-of has a password in it, which all users of this machine can"
                             " see: name a file with it in metadata.password_file, or set"
                             " ZEROSTOR_METADATA_PASSWORD")
        settings = msgspec.structs.replace(settings, role="slave")
    elif inside and not written.from_environment("metadata", "master"):
        raise SetupError(f"{place} has a password in it; name a file with it in password_file")
    settings = msgspec.structs.replace(
        settings, master=url, password=settings.password or Secret(inside))
    check_metadata(place, settings)
    check_listen(settings, written.place("metadata", "listen"))
    return settings


def _paths(root: Path, spool: SpoolSettings, environ: Mapping[str, str]) -> Paths:
    return Paths(
        root=root,
        spool=_absolute(Path(spool.directory)) if spool.directory else root / "spool",
        metadata=root / "metadata",
        redis=root / "redis",
        logs=root / "logs",
        stores=root / "stores",
        run=_run_folder(root, environ),
    )


def _run_folder(root: Path, environ: Mapping[str, str]) -> Path:
    """DATA/run, or a short private folder when the path of a socket in there would be too long."""
    if len(os.fsencode(root / "run" / _LONGEST_SOCKET)) <= SOCKET_PATH_MAX:
        return root / "run"
    digest = hashlib.blake2b(os.fsencode(root), digest_size=8).hexdigest()
    for base in (environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir()):
        folder = Path(base) / f"zerostor-{os.getuid()}-{digest}"
        if base and len(os.fsencode(folder / _LONGEST_SOCKET)) <= SOCKET_PATH_MAX:
            return folder
    raise SetupError(f"{root} is too deep for unix sockets: give a shorter folder with --data")
