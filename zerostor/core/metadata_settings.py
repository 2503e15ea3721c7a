"""What must hold between the settings of the metadata, beyond their types."""

from __future__ import annotations

from collections.abc import Sequence

from zerostor.core.errors import SetupError
from zerostor.core.settings import (
    EMBEDDED,
    METADATA_SCHEMES,
    MetadataSettings,
    is_loopback,
)
from zerostor.core.store_settings import check_url
from zerostor.core.units import parse_address
from zerostor.core.zdb_url import parse_zdb_url


def check_urls(where: str, urls: Sequence[str]) -> None:
    """Raise SetupError unless all are addresses of metadata servers, each another one."""
    if not urls:
        raise SetupError(f"{where} is empty: name a metadata server, or leave it out")
    if EMBEDDED in urls and len(urls) > 1:
        raise SetupError(f"{where}: {EMBEDDED!r} stands alone: of several servers give the address"
                         " of each")
    for url in urls:
        if url != EMBEDDED:
            check_url(where, url, METADATA_SCHEMES)
        if urls.count(url) > 1:
            raise SetupError(f"{where} names {url} twice")


def check_listen(metadata: MetadataSettings, place: str) -> None:
    """Raise SetupError for a `metadata.listen`, written at `place`, that must not be."""
    if not metadata.listen:
        return
    address = parse_address(metadata.listen)
    # The hosts of a cluster share one file: one of them listens where the others connect.
    shared = any(parse_zdb_url(url).port == address.port
                 for url in metadata.url if url.startswith("zdb:"))
    if not metadata.embedded and not shared:
        raise SetupError(f"{place} is for the embedded server, but metadata.url names another")
    if not metadata.password and not is_loopback(address.host):
        raise SetupError(
            f"{place}: whoever can connect to {address} could read and change all metadata; set"
            " metadata.password_file, or listen on 127.0.0.1"
        )


def check_metadata(where: str, metadata: MetadataSettings) -> None:
    """Raise SetupError for a role that does not fit the rest. where: the place of `master`."""
    if metadata.role not in ("", "master", "slave"):
        raise SetupError(f"metadata.role is master or slave, not {metadata.role!r}")
    if metadata.role == "slave" and not metadata.master:
        raise SetupError('metadata.role is slave: say of which master, as in master = "zdb://HOST"')
    if metadata.role == "master" and metadata.master:
        raise SetupError("metadata.role is master, but metadata.master names another one")
    if 0 < metadata.archive_every < 1:
        raise SetupError("metadata.archive_every must be at least 1s, or 0 for never")
    if metadata.master:
        check_url(where, metadata.master, METADATA_SCHEMES)
    for url in (*metadata.url, metadata.master):
        if url.startswith("zdb"):
            parse_zdb_url(url)
