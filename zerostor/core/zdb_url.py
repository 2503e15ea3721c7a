"""Addresses of 0-db namespaces as settings write them.

    zdb://HOST[:PORT][/NAMESPACE][?mode=user&value=256KiB]
    zdb+unix:///PATH/OF/SOCKET[?namespace=NAMESPACE&mode=user&value=256KiB]

No password: settings keep it apart. mode: what the namespace is expected to be in. value: where the
bytes of a shard are cut, for stores.
"""

from __future__ import annotations

import urllib.parse
from typing import NamedTuple

from zerostor.core.errors import SetupError
from zerostor.core.limits import KIB, MIB
from zerostor.core.units import parse_size

DEFAULT_PORT = 9900
DEFAULT_NAMESPACE = "default"
NAMESPACE_MAX = 128
"""Bytes of a namespace's name."""
VALUE_SIZE = 2 * MIB
"""Where values are cut if the address does not say."""
VALUE_MIN, VALUE_MAX = 64 * KIB, 8 * MIB
"""0-db takes no value above 8 MiB."""
MODES = {"": "", "user": "userkey", "seq": "sequential"}
"""As written, and as NSINFO says it."""


class ZdbPlace(NamedTuple):
    """A namespace of a server. unix: path of its socket, else empty. mode: a value of MODES."""

    unix: str
    host: str
    port: int
    namespace: str
    mode: str = ""
    value_size: int = VALUE_SIZE

    @property
    def server(self) -> str:
        """The same for all namespaces that are lost together."""
        return self.unix or f"{self.host}:{self.port}"


def parse_zdb_url(url: str) -> ZdbPlace:
    """What `url` names. Raises SetupError with the reason."""
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.username:
            raise ValueError("0-db has no users; a password goes into a file, password_file")
        host, port = parts.hostname or "", parts.port or DEFAULT_PORT
        query = urllib.parse.parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True
                                       ) if parts.query else []
        path = urllib.parse.unquote(parts.path, errors="strict")
    except ValueError as error:
        raise SetupError(f"{url!r} cannot be understood: {error}") from None
    known = {"mode", "value"} | ({"namespace"} if parts.scheme == "zdb+unix" else set())
    options = dict(query)
    strange = sorted(options.keys() - known)
    if strange or len(options) < len(query) or parts.fragment:
        raise SetupError(f"{url!r}: behind the question mark there may be"
                         f" {', '.join(sorted(known))}, once each")
    unix = path if parts.scheme == "zdb+unix" else ""
    if not (unix.startswith("/") and not host if parts.scheme == "zdb+unix" else host):
        raise SetupError(f"{url!r} names no server: write zdb://HOST:PORT/NAMESPACE, or"
                         " zdb+unix:///PATH?namespace=NAMESPACE")
    name = options.get("namespace", "") if unix else path.removeprefix("/")
    mode = options.get("mode", "")
    if mode not in MODES:
        raise SetupError(f"{url!r}: mode is user or seq, not {mode!r}")
    return ZdbPlace(unix, host, port, _namespace(url, name), MODES[mode], _value_size(url, options))


def _namespace(url: str, name: str) -> str:
    name = name or DEFAULT_NAMESPACE
    if "/" in name or name in (".", "..") or not name.isprintable():
        raise SetupError(f"{url!r}: {name!r} cannot be the name of a namespace")
    if len(name.encode("utf-8", "surrogateescape")) > NAMESPACE_MAX:
        raise SetupError(f"{url!r}: the name of a namespace has at most {NAMESPACE_MAX} bytes")
    return name


def _value_size(url: str, options: dict[str, str]) -> int:
    if "value" not in options:
        return VALUE_SIZE
    size = parse_size(options["value"])
    if not VALUE_MIN <= size <= VALUE_MAX:
        raise SetupError(f"{url!r}: value is 64KiB to 8MiB")
    return size
