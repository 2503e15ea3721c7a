"""Names of other metadata servers, and what a server's own settings show."""

from __future__ import annotations

from pathlib import Path

import pytest

from zerostor.core.errors import SetupError
from zerostor.zdb.link import Link, known_peers, parse_peer
from zerostor.zdb.server_settings import ServerSettings
from zerostor.zdb.session import Access


@pytest.mark.parametrize("url", [
    "zdb://10.0.0.5:9900", "zdb://meta.example:1", "zdb://[::1]:9900", "zdb://[fe80::1%eth0]:7",
    "zdb://host:9900/of-its-own", "unix:///run/zdb.sock",
])
def test_a_peer_is_read_back_from_its_url(url: str) -> None:
    peer = parse_peer(url, "tell-nobody")
    assert str(peer) == url
    assert parse_peer(str(peer), "tell-nobody") == peer


@pytest.mark.parametrize("url", ["", "zdb://", "zdb://:9900", "zdb://h:port", "http://h", "unix://"])
def test_what_is_no_metadata_server(url: str) -> None:
    with pytest.raises(SetupError):
        parse_peer(url)
    assert known_peers([url], "") == []


def test_no_password_is_shown() -> None:
    secret = "tell-nobody"
    for shown in (parse_peer("zdb://h", secret), Access(secret.encode()),
                  ServerSettings(Path("/x"), admin_password=secret.encode())):
        assert secret not in repr(shown) and secret not in str(shown) and "***" in repr(shown)


class Socket:
    """A connection as far as its own address goes."""

    def __init__(self, name: object) -> None:
        self._name = name

    def get_extra_info(self, _: str) -> object:
        return self._name


@pytest.mark.parametrize(("listens", "name", "announced"), [
    ("zdb://0.0.0.0:9900", ("10.0.0.5", 50000), "zdb://10.0.0.5:9900"),
    ("zdb://:9900", ("10.0.0.5", 50000), "zdb://10.0.0.5:9900"),
    ("zdb://[::]:9900", ("fd00::5", 50000, 0, 0), "zdb://[fd00::5]:9900"),
    ("zdb://10.0.0.9:9900", ("10.0.0.5", 50000), "zdb://10.0.0.9:9900"),
    ("zdb://0.0.0.0:9900", "", "zdb://0.0.0.0:9900"),
    ("unix:///run/zdb.sock", ("10.0.0.5", 50000), "unix:///run/zdb.sock"),
])
def test_any_address_is_told_as_the_one_the_other_side_sees(
        listens: str, name: object, announced: str) -> None:
    link = Link(None, Socket(name))  # type: ignore[arg-type]
    assert link.announced(listens) == announced.encode()
