"""Who has proved a key is let in only while that is a key of his."""

from __future__ import annotations

from typing import Any

import asyncssh
import msgspec

from sshgw.admission import Admission
from sshgw.login import Login
from zerostor.core.homes import Home, HomeKey


class Connection:
    said = ""

    def get_extra_info(self, _name: str) -> None:
        return None

    def disconnect(self, _code: int, reason: str) -> None:
        self.said = reason


class Homes:
    def __init__(self, home: Home) -> None:
        self.home = home

    def find(self, _user: str) -> Home:
        return self.home


def test_a_key_that_is_removed_while_somebody_logs_in_with_it_lets_nobody_in() -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    known = HomeKey(key.get_fingerprint(), "", "", 0.0)
    for gone in ({"keys": ()}, {"enabled": False}, {}):
        homes: Any = Homes(Home("anna", 1, 0.0, keys=(known,)))
        admission, connection = Admission(9, 9, lambda: 0.0), Connection()
        login = Login(homes, admission, lambda user, left: None)  # type: ignore[arg-type,return-value]
        login.connection_made(connection)  # type: ignore[arg-type]
        assert login.validate_public_key("anna", key)
        homes.home = msgspec.structs.replace(homes.home, **gone)
        login.auth_completed()
        assert bool(connection.said) == bool(gone)
        assert len(admission.of("anna")) == (not gone)
