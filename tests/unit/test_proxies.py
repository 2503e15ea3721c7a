"""Who stands behind proxies, and who only says so."""

from __future__ import annotations

import pytest

from gateway.proxies import Proxies, counted_as, read_address
from gateway.room import Room

TRUSTED = Proxies(["10.0.0.0/8", "127.0.0.1", "fd00::/8"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client", "told"),
    [
        ("203.0.113.5", ["1.2.3.4"], "203.0.113.5", False),
        ("10.0.0.1", [], "10.0.0.1", False),
        ("10.0.0.1", ["203.0.113.5"], "203.0.113.5", True),
        ("127.0.0.1", ["1.2.3.4, 203.0.113.5"], "203.0.113.5", True),
        ("10.0.0.1", ["127.0.0.1, 203.0.113.5, 10.9.9.9"], "203.0.113.5", True),
        ("10.0.0.1", ["1.2.3.4", "203.0.113.5,10.1.1.1"], "203.0.113.5", True),
        ("10.0.0.1", ["1.2.3.4, unknown, 10.1.1.1"], "10.1.1.1", True),
        ("10.0.0.1", ["unknown"], "10.0.0.1", False),
        ("10.0.0.1", ["203.0.113.5:1234"], "203.0.113.5", True),
        ("fd00::1", ["[2001:db8::5]:80"], "2001:db8::5", True),
        ("::ffff:10.0.0.1", ["203.0.113.5"], "203.0.113.5", True),
        ("10.0.0.1", ["10.1.1.1, 10.2.2.2"], "10.1.1.1", True),
        ("10.0.0.1", ["203.0.113.5" + ", 10.0.0.2" * 100], "10.0.0.2", True),
        ("fe80::1%eth0", ["1.2.3.4"], "fe80::1", False),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy(peer, forwarded, client, told):
    found, by_proxy = TRUSTED.client(peer, forwarded)
    assert (str(found), by_proxy) == (client, told)


def test_a_unix_socket_has_no_address():
    assert TRUSTED.client("", ["1.2.3.4"]) == (None, False)


@pytest.mark.parametrize(("text", "name"), [
    ("203.0.113.5", "203.0.113.5"), ("::ffff:203.0.113.5", "203.0.113.5"),
    ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"), ("127.0.0.1", ""), ("::1", ""),
    ("::ffff:127.0.0.1", ""), ("127.0.0.2", "127.0.0.2"), ("", "")])
def test_what_limits_count_an_address_as(text, name):
    assert counted_as(read_address(text)) == name


def test_room_of_one_address_and_in_all():
    room = Room(4, 2, TRUSTED)
    one, other, proxy = (room.name((host, 1)) for host in ("203.0.113.5", "::1", "10.0.0.1"))
    assert (one, other, proxy) == ("203.0.113.5", "", "")
    for _ in range(2):
        assert not room.refuses(one)
        room.enter(one)
    assert "of your address" in room.refuses(one)
    assert not room.refuses(room.name(("203.0.113.6", 1)))
    for name in (other, proxy):
        assert not room.refuses(name)
        room.enter(name)
    assert "4 connections are open" in room.refuses(other)
    room.leave(one)
    assert not room.refuses(one)
    room.leave(one)
    room.leave(other)
    room.leave(proxy)
    assert (room.open, room._places._of) == (0, {}), "nothing is kept of who has gone"
