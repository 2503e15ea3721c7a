"""The text that Prometheus reads."""

from __future__ import annotations

import re

from gateway.exposition import _replication
from zerostor.core.replication import FollowerState, ReplicationState, Role


def test_slaves_with_one_address_are_two_series() -> None:
    """On two hosts, say, each at the same path."""
    address = "unix:///srv/zerostor/run/zdb.sock"
    slaves = [FollowerState(f"{number:032x}", address, 5, 0.5) for number in range(2)]
    text = _replication(ReplicationState(Role.MASTER, "a" * 32, 1, 0, 28, 0, 0, slaves=slaves))
    series = [line.rsplit(" ", 1)[0] for line in text if not line.startswith("#")]
    assert len(set(series)) == len(series) and sum(address in one for one in series) == 4
    assert all(re.fullmatch(r'[a-z_]+({[a-z]+="[^"]*"(,[a-z]+="[^"]*")*})?', one) for one in series)
