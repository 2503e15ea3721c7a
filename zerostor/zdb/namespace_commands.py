"""Commands on namespaces: choose, list, make, change, empty and remove them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

import msgspec

from zerostor.core.errors import MetadataUnavailable, SetupError
from zerostor.core.limits import MIB
from zerostor.core.log_format import Mode
from zerostor.core.namespace_table import MODES, NAME_MAX
from zerostor.core.resp import OK, array, bulk, integer
from zerostor.zdb.disk import SyncFailed
from zerostor.zdb.entry_commands import leading_number, writable
from zerostor.zdb.namespaces import DEFAULT, Namespace, Pause
from zerostor.zdb.passwords import PASSWORD_MAX, PROOF_SIZE, matches, proof
from zerostor.zdb.server_settings import ServerMode
from zerostor.zdb.session import Answer, Command, Refusal, Session, held, later

SELECT_PASSWORD_MAX = 255
_NOT_FOUND = "Namespace not found"
_U64 = 2**64 - 1


def _name(raw: bytes) -> bytes:
    if len(raw) > NAME_MAX:
        raise Refusal("Namespace too long")
    return raw


def _named(session: Session, raw: bytes, missing: str = _NOT_FOUND) -> Namespace:
    found = session.shared.namespaces.by_name.get(_name(raw))
    if found is None:
        raise Refusal(missing)
    return found


def _unpaused(namespace: Namespace) -> Namespace:
    if namespace.pause is not None:
        raise Refusal("Namespace is being reloaded")
    return namespace


def burn_nonce(session: Session, given: bytes) -> bytes:
    """The nonce that `given` must answer; it counts for this one try."""
    nonce, session.nonce = session.nonce, None
    if nonce is None:
        raise Refusal("No CHALLENGE requested, secure authentication not available")
    if len(given) != PROOF_SIZE:
        raise Refusal("Invalid hash length")
    return nonce


def _select(session: Session, arguments: Sequence[bytes]) -> Answer:
    namespace = _named(session, arguments[1])
    password = session.shared.namespaces.password(namespace)
    session.writable = _admitted(session, namespace, password, arguments[2:])
    session.namespace = namespace
    return OK


def _admitted(
    session: Session, namespace: Namespace, password: bytes | None, words: Sequence[bytes]
) -> bool:
    """True for reading and writing, False for reading only."""
    if password is None:
        return True
    if not words:
        if not namespace.row.public:
            raise Refusal("Namespace protected and private")
        return False
    if len(words) > 2:
        raise Refusal("Too many arguments")
    if len(words) == 1:
        if len(words[0]) > SELECT_PASSWORD_MAX:
            raise Refusal("Password too long")
        granted = matches(words[0], password)
    else:
        if words[0].upper() != b"SECURE":
            raise Refusal("Only SECURE extra method supported")
        nonce = burn_nonce(session, words[1])
        granted = matches(words[1].lower(), proof(nonce, password))
    if not granted or not password:
        session.shared.counters.unauthorized += 1
        raise Refusal("Access denied")
    return True


def _nslist(session: Session, _: Sequence[bytes]) -> Answer:
    return array([bulk(name) for name in session.shared.namespaces.by_name])


def _nsnew(session: Session, arguments: Sequence[bytes]) -> Answer:
    name, namespaces = _name(arguments[1]), session.shared.namespaces
    # Control characters would let a name add lines to NSINFO.
    if name in (DEFAULT, b".", b"..") or b"/" in name or any(byte < 32 for byte in name):
        raise Refusal("This name is not allowed")
    if name in namespaces.by_name:
        raise Refusal("This namespace is not available")
    try:
        namespaces.create(name)
    except (MetadataUnavailable, SetupError) as failure:
        raise Refusal(f"Could not create namespace: {failure}") from None
    return OK


def _nsdel(session: Session, arguments: Sequence[bytes]) -> Answer:
    if _name(arguments[1]) == DEFAULT:
        raise Refusal("Cannot remove default namespace")
    namespace = _named(session, arguments[1], "This namespace doesn't exists")
    if namespace is session.namespace:
        raise Refusal("Cannot remove namespace you're currently using.")
    session.shared.namespaces.remove(_unpaused(namespace))
    return OK


def _flag(field: str) -> Callable[[Session, Namespace, bytes], None]:
    def change(session: Session, namespace: Namespace, value: bytes) -> None:
        row = msgspec.structs.replace(namespace.row, **{field: value[:1] == b"1"})
        session.shared.namespaces.change(namespace, row)

    return change


def _maxsize(session: Session, namespace: Namespace, value: bytes) -> None:
    row = msgspec.structs.replace(namespace.row, maxsize=min(leading_number(value), _U64))
    session.shared.namespaces.change(namespace, row)


def _password(session: Session, namespace: Namespace, value: bytes) -> None:
    namespaces = session.shared.namespaces
    try:
        sealed = b"" if value == b"*" else namespaces.vault.seal(value)
    except (OSError, SyncFailed) as failure:
        raise MetadataUnavailable(f"the password cannot be kept: {failure}") from None
    namespaces.change(namespace, msgspec.structs.replace(namespace.row, password=sealed))


def _mode(session: Session, namespace: Namespace, value: bytes) -> None:
    namespaces = session.shared.namespaces
    if namespaces.settings.mode is not ServerMode.MIXED:
        raise Refusal("This server instance is configured to use a single runtime mode")
    if namespace.log.used:
        raise Refusal("Cannot change mode of used namespace")
    mode = value.decode("ascii", "replace")
    if mode not in MODES:
        raise Refusal("Invalid property value (expected: user, seq)")
    if mode != namespace.row.mode:
        try:
            namespaces.change_mode(_unpaused(namespace), mode)
        except SetupError as failure:
            raise MetadataUnavailable(str(failure)) from None


PROPERTIES: Mapping[bytes, Callable[[Session, Namespace, bytes], None]] = {
    b"maxsize": _maxsize,
    b"password": _password,
    b"public": _flag("public"),
    b"worm": _flag("worm"),
    b"mode": _mode,
    b"lock": _flag("locked"),
    b"freeze": _flag("frozen"),
}
OF_DEFAULT_TOO = (b"mode", b"lock", b"freeze")


def _nsset(session: Session, arguments: Sequence[bytes]) -> Answer:
    _, name, prop, value = arguments
    name = _name(name)
    if len(value) > PASSWORD_MAX:
        raise Refusal("Argument too long")
    if name == DEFAULT and prop not in OF_DEFAULT_TOO:
        raise Refusal("Cannot update default namespace")
    namespace = _named(session, name)
    change = PROPERTIES.get(prop)
    if change is None:
        raise Refusal("Invalid property")
    change(session, namespace, value)
    return OK


def lines(title: str, facts: Mapping[str, str | int]) -> bytes:
    """A section of a report: its title, then `name: value` lines."""
    text = "".join(f"{name}: {value}\n" for name, value in facts.items())
    return f"# {title}\n{text}".encode("utf-8", "surrogateescape")


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _nsinfo(session: Session, arguments: Sequence[bytes]) -> Answer:
    namespace = _named(session, arguments[1])
    row, store, counters = namespace.row, namespace.log, namespace.log.counters
    size, index_size = store.live_bytes, store.index_bytes
    password = session.shared.namespaces.password(namespace) is not None
    swapped = int.from_bytes(store.next_id.to_bytes(store.id_bytes, "little"), "big")
    facts: dict[str, str | int] = {
        "name": row.name.decode("utf-8", "surrogateescape"),
        "entries": store.entries, "public": _yes(row.public), "worm": _yes(row.worm),
        "locked": _yes(row.locked or row.frozen or store.refused), "password": _yes(password),
        "data_size_bytes": size, "data_size_mb": f"{size / MIB:.2f}",
        "data_limits_bytes": row.maxsize, "index_size_bytes": index_size,
        "index_size_kb": f"{index_size / 1024:.2f}", "next_internal_id": f"0x{swapped:08x}",
        "mode": "userkey" if store.mode is Mode.USER else "sequential",
        # There is no index on disk that an entry is looked up in, so none that could fail.
        "stats_index_io_errors": 0, "stats_index_io_error_last": 0, "stats_index_faults": 0,
        "stats_data_io_errors": counters.reads_failed + counters.writes_failed,
        "stats_data_io_error_last": max(counters.read_failed_at, counters.write_failed_at),
        "stats_data_faults": counters.reads_failed,
    }
    if row.maxsize:
        facts["space_available"] = max(0, row.maxsize - size)
    facts |= _disk(session, namespace)
    return held(store, bulk(lines("namespace", facts)))


def _disk(session: Session, namespace: Namespace) -> dict[str, str | int]:
    folder = session.shared.namespaces.folder(namespace.row)
    facts: dict[str, str | int] = {}
    found = os.statvfs(folder)
    free = found.f_frsize * found.f_bavail
    for kind in ("index", "data"):
        facts[f"{kind}_disk_freespace_bytes"] = free
        facts[f"{kind}_disk_freespace_mb"] = f"{free / MIB:.2f}"
    if session.admin:
        tip = namespace.log.tip
        active = str(folder / f"d{tip.number}")
        facts |= {
            "data_path": str(folder), "data_active": active, "index_path": str(folder),
            "index_active": active, "data_current_id": tip.number,
            "data_current_offset": tip.offset,
        }
    return facts


def _dbsize(session: Session, _: Sequence[bytes]) -> Answer:
    store = session.namespace.log
    return held(store, integer(store.entries))


def _nsjump(session: Session, _: Sequence[bytes]) -> Answer:
    store = session.namespace.log
    store.rotate()
    return held(store, OK)


def _flush(session: Session, _: Sequence[bytes]) -> Answer:
    row = session.namespace.row
    if row.public or session.shared.namespaces.password(session.namespace) is None:
        raise Refusal("Flushing public namespace denied")
    store = writable(session).log
    if row.worm:
        raise Refusal("Namespace is protected by worm mode")
    store.clear()
    return held(store, OK)


def _reload(session: Session, arguments: Sequence[bytes]) -> Answer:
    namespace = _unpaused(_named(session, arguments[1]))
    if namespace.log.refused is not None:
        # A slave's log is being written by its master's; and after a failed flush the kernel
        # would give back bytes that are not on disk.
        raise Refusal(f"Cannot reload: {namespace.log.refused}")
    pause = namespace.pause = Pause()

    async def reload() -> bytes:
        try:
            await namespace.log.reload()
        finally:
            namespace.pause = None
            pause.finish()
        return OK

    return later(session, reload())


COMMANDS = (
    Command(b"DBSIZE", 0, 1023, _dbsize),
    Command(b"NSNEW", 1, 1, _nsnew, admin=True, filled=True),
    Command(b"NSDEL", 1, 1, _nsdel, admin=True, filled=True),
    Command(b"NSLIST", 0, 1023, _nslist),
    Command(b"NSSET", 3, 3, _nsset, admin=True, filled=True),
    Command(b"NSINFO", 1, 1, _nsinfo, filled=True),
    Command(b"NSJUMP", 0, 1023, _nsjump, admin=True),
    Command(b"SELECT", 1, 1023, _select, misuse="Invalid argument"),
    Command(b"RELOAD", 1, 1, _reload, admin=True, filled=True),
    Command(b"FLUSH", 0, 1023, _flush),
)
