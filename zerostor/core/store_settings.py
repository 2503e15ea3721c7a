"""What [[store]] may say, and which addresses there are of stores and servers."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence

from zerostor.core.errors import SetupError
from zerostor.core.settings import STORE_SCHEMES, StoreSettings, is_name


def check_url(where: str, url: str, schemes: Sequence[str]) -> None:
    """Raise SetupError unless `url` has one of `schemes` and something behind it."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in schemes or not rest.strip("/"):
        forms = ", ".join(f"{known}://" for known in schemes)
        raise SetupError(f"{where}: {url!r} is not one of {forms} with an address behind it")
    try:
        _ = urllib.parse.urlsplit(url).port
    except ValueError as error:
        raise SetupError(f"{where}: {url!r}: {error}") from None
    if scheme in ("unix", "zdb+unix", "dir") and not rest.startswith("/"):
        raise SetupError(f"{where}: {url!r} needs a full path, as in {scheme}:///path")


def check_stores(stores: Sequence[StoreSettings]) -> None:
    """Raise SetupError for names or places that are missing, malformed or used twice."""
    places: dict[tuple[str, ...], str] = {}
    names: set[str] = set()
    for position, store in enumerate(stores, 1):
        if not is_name(store.name):
            raise SetupError(
                f"[[store]] number {position}: its name must be 1 to 32 of a-z 0-9 . _ -,"
                f" not {store.name!r}"
            )
        if store.name in names:
            raise SetupError(f"two stores are named {store.name!r}: give each its own name")
        check_url(f"store {store.name!r}", store.url, STORE_SCHEMES)
        if store.node and not is_name(store.node):
            raise SetupError(f"store {store.name!r}: {store.url}: write the name of a node of the"
                             " hub on this host, as in node://shed-1")
        if store.namespace is not None and store.namespace.mode == "sequential":
            raise SetupError(f"store {store.name!r}: {store.url}: a store needs a namespace in user"
                             " mode, for it chooses the keys")
        place = store.place
        if place in places:
            raise SetupError(
                f"stores {places[place]!r} and {store.name!r} are the same place, {store.url}:"
                " two shards would be lost together"
            )
        names.add(store.name)
        places[place] = store.name
