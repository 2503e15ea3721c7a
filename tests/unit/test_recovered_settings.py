"""What a recovery says, and the settings that it writes."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import pytest

from gateway.commands.recover import _print_found
from gateway.commands.recovered_settings import (
    absent_stores,
    policies_seen,
    settings_text,
    without_stores,
)
from zerostor import config
from zerostor.core.container_index import ContainerIndex
from zerostor.core.settings import Policy, StoreSettings
from zerostor.engine.recovered import Summary

KEPT = """
# ours
[gateway]
listen = "0.0.0.0:80"  # [[store]] is no header here

[[store]]
name = "old"
url = "dir:///old"
labels = { host = "x" }

[ policy.default ]
data = 4
parity = 2

[[ store ]]
name = "older"
[store.labels]
host = "y"
["metadata"]
archive_every = "1m"
"""


def test_what_else_was_written_stays() -> None:
    text = settings_text(KEPT, [StoreSettings("a", "dir:///a")], [], {"x": Policy(9, 9)})
    tree = tomllib.loads(text)
    assert tree == {"gateway": {"listen": "0.0.0.0:80"}, "policy": {"default": {
        "data": 4, "parity": 2}}, "metadata": {"archive_every": "1m"},
        "store": [{"name": "a", "url": "dir:///a"}]}
    assert "# ours" in text
    assert tomllib.loads(without_stores(KEPT)).keys() == {"gateway", "policy", "metadata"}


def test_strange_names_and_labels_are_quoted() -> None:
    store = StoreSettings("a", 'dir:///with "quotes" \\ and ü', "pool-2",
                          {"host": 'a "b"', "a key": "c"}, "/secret file")
    tree = tomllib.loads(settings_text("", [store], [], {"we.ird": Policy(3, 1)}))
    assert tree["store"] == [{"name": "a", "url": store.url, "pool": "pool-2",
                              "labels": store.labels, "password_file": "/secret file"}]
    assert tree["policy"] == {"we.ird": {"data": 3, "parity": 1}}


def test_the_settings_load_though_stores_are_gone(tmp_path: Path) -> None:
    seen = {"": Counter({(4, 2): 5, (3, 1): 1}), "default": Counter({(4, 2): 3}),
            "small": Counter[tuple[int, int]]()}
    policies = policies_seen(seen)
    assert policies == {"default": Policy(4, 2), "small": Policy(4, 2)}
    given = [StoreSettings(name, f"dir://{tmp_path}/{name}") for name in ("a", "b", "new-1")]
    absent = absent_stores(given, ["a", "c"], policies, tmp_path)
    assert [store.name for store in absent] == ["c", "new-2", "new-3"]
    (tmp_path / "zerostor.toml").write_text(settings_text("", given, absent, policies))
    loaded = config.load(tmp_path, environ={})
    assert len(loaded.store) == 6
    assert (loaded.policy["default"].data, loaded.policy["small"].parity) == (4, 2)


def test_a_policy_under_which_all_was_private_stays_private() -> None:
    seen = {"": Counter({(4, 2): 5}), "small": Counter({(3, 1): 1}), "open": Counter({(3, 1): 1})}
    policies = policies_seen(seen, {"default", "small"})
    tree = tomllib.loads(settings_text("", [], [], policies))
    assert tree["policy"] == {"default": {"data": 4, "parity": 2, "private": True},
                              "small": {"data": 3, "parity": 1, "private": True},
                              "open": {"data": 3, "parity": 1}}


def test_without_records_nothing_is_said_of_policies() -> None:
    assert policies_seen({}) == {}
    assert tomllib.loads(settings_text("", [StoreSettings("a", "dir:///a")], [], {})).keys() == {
        "store"}


@pytest.mark.parametrize("created_ms,said", [
    (1_800_000_000_000, "2027-01-15 08:00:00 UTC"), (2**62, "s since 1970"),
])
def test_an_index_of_any_time_is_told(
    capsys: pytest.CaptureFixture[str], created_ms: int, said: str
) -> None:
    """As a date where there is one: clocks may have been wrong by any amount."""
    _print_found(Summary(index=ContainerIndex(7, bytes(16), 0, created_ms)), 1.0)
    assert said in capsys.readouterr().out
