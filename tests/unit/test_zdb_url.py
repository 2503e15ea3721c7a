"""Addresses of 0-db namespaces."""

from __future__ import annotations

import pytest

from zerostor.core.errors import SetupError
from zerostor.core.limits import KIB, MIB
from zerostor.core.zdb_url import ZdbPlace, parse_zdb_url


@pytest.mark.parametrize(("url", "place"), [
    ("zdb://host", ZdbPlace("", "host", 9900, "default")),
    ("zdb://host:1234/ns", ZdbPlace("", "host", 1234, "ns")),
    ("zdb://:secret@host:1/ns/", None), ("zdb://secret@host:1/ns", None),
    ("zdb://[::1]:5/a%20b", ZdbPlace("", "::1", 5, "a b")),
    ("zdb://h/ns?mode=user&value=256KiB", ZdbPlace("", "h", 9900, "ns", "userkey", 256 * KIB)),
    ("zdb://h/ns?mode=seq", ZdbPlace("", "h", 9900, "ns", "sequential", 2 * MIB)),
    ("zdb+unix:///run/z.sock", ZdbPlace("/run/z.sock", "", 9900, "default")),
    ("zdb+unix:///a%20b?namespace=x&mode=user", ZdbPlace("/a b", "", 9900, "x", "userkey")),
    ("zdb+unix://h/z.sock", None), ("zdb+unix:", None), ("zdb:///ns", None), ("zdb://", None),
    ("zdb://h:x/ns", None), ("zdb://h:70000/ns", None), ("zdb://h/a/b", None), ("zdb://h/..", None),
    ("zdb://h/a%00b", None), ("zdb://h/%ff", None), ("zdb://h/" + "n" * 129, None),
    ("zdb://h/ns?mode=both", None), ("zdb://h/ns?mod=user", None), ("zdb://h/ns?mode", None),
    ("zdb://h/ns?mode=user&mode=seq", None), ("zdb://h/ns#x", None), ("zdb://h?namespace=x", None),
    ("zdb://h/ns?value=1", None), ("zdb://h/ns?value=9MiB", None), ("zdb://h/ns?value=big", None),
])
def test_addresses(url: str, place: ZdbPlace | None) -> None:
    if place is not None:
        assert parse_zdb_url(url) == place
        return
    with pytest.raises(SetupError):
        parse_zdb_url(url)


def test_namespaces_of_one_server_are_lost_together() -> None:
    assert parse_zdb_url("zdb://h:1/a").server == parse_zdb_url("zdb://h:1/b").server == "h:1"
    assert parse_zdb_url("zdb+unix:///s?namespace=a").server == "/s"
