"""Stores come and go under a running `zerostor up`, and nothing of what is stored is missed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.fakes.running_up import ROOT, Answer, Up, content_of

JSON = {"Content-Type": "application/json"}


def say(up: Up, path: str, **body: object) -> Answer:
    return up.ask("POST", f"/api/stores{path}", json.dumps(body).encode(), JSON)


def command(up: Up, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "gateway", "stores", *words, "--server",
                           f"http://127.0.0.1:{up.port}"], cwd=ROOT, capture_output=True,
                          text=True, check=False, timeout=120)


def naming(up: Up, links: list[str], store: str) -> list[str]:
    return [link for link in links if store in up.stripes(link).stores]


def all_read(up: Up, bodies: dict[str, bytes]) -> None:
    for link, body in bodies.items():
        answer = up.get(link)
        assert answer.status == 200 and answer.body == body, (link, answer.status)


def drain_of(up: Up, store: str) -> dict[str, Any]:
    return up.stores()[store]["drain"] or {}


def test_a_store_is_added_drained_with_a_keeper_that_is_killed_and_removed(tmp_path: Path) -> None:
    with Up(tmp_path / "up") as up:
        bodies = {}
        for number, size in enumerate([5_000_000, 3_000_000, 2_500_000, 40_000, 100, 0]):
            body = content_of(size, number)
            bodies[up.store(body)] = body
        links = list(bodies)

        # With 20 stores for 20 shards none can be spared, and the answer says how many it takes.
        refused = say(up, "/07/drain")
        assert refused.status == 409 and "20" in refused.json["detail"], refused.body
        assert say(up, "/nobody/drain").status == 404
        assert say(up, "/07/remove", lost=True).status == 409

        added = command(up, "add", "new", str(tmp_path / "new"), "--label", "host=other")
        assert added.returncode == 0, added.stderr
        assert say(up, "", name="new", url=f"dir://{tmp_path}/elsewhere").status == 409
        assert say(up, "/07/remove").status == 409, "it has to be drained before"
        up.until(lambda: up.stores()["new"]["condition"] == "up", "it is there")

        assert say(up, "/07/drain").status == 200
        assert say(up, "/08/drain").status == 409, "two are too many"
        assert up.stores()["07"]["condition"] == "draining"
        for _ in range(2):
            up.kill("keeper")
            all_read(up, bodies)
        up.until(lambda: drain_of(up, "07").get("empty"), "it is empty", 180.0)
        assert naming(up, links, "07") == []
        assert len(naming(up, links, "new")) == len(links)

        # It may be unplugged now: every shard of every object is there without it.
        up.unplug("07")
        for link in links:
            found = up.get(f"/api/check/{link.lstrip('/')}?mode=hard").json
            assert found["state"] == "healthy", found
        removed = command(up, "remove", "07", "--json")
        assert removed.returncode == 0 and json.loads(removed.stdout)["store"] == "removed"
        assert "07" not in up.stores()
        body = content_of(3_000_000, 99)
        bodies[link := up.store(body)] = body
        assert sorted(up.stripes(link).stores) == sorted(
            {f"{n:02}" for n in range(20)} - {"07"} | {"new"})

        # All of that is so after a restart.
        up.stop()
        up.start()
        assert "07" not in up.stores() and up.stores()["new"]["labels"] == {"host": "other"}
        all_read(up, bodies)
        shown = command(up)
        assert shown.returncode == 0 and "new" in shown.stdout, shown.stderr
        assert "durability: policy default over 2 hosts with up to 19 shards" in shown.stdout
        assert "WARNING" in shown.stdout


def test_a_store_that_is_away_costs_nothing_and_one_that_died_is_replaced(tmp_path: Path) -> None:
    """What README says under "a disk died, what now?"."""
    with Up(tmp_path / "up") as up:
        bodies = {}
        for number, size in enumerate([5_000_000, 2_500_000]):
            body = content_of(size, number)
            bodies[up.store(body)] = body
        before = {link: up.stripes(link) for link in bodies}

        # Away for less than the grace: nothing is rebuilt, and what it missed is caught up.
        up.unplug("03")
        up.until(lambda: up.stores()["03"]["condition"] == "down", "it is seen to be down")
        body = content_of(2_600_000, 9)
        bodies[missed := up.store(body)] = body
        assert "03" not in up.stripes(missed).stores and "" in up.stripes(missed).stores
        up.plug("03")
        up.until(lambda: "" not in up.stripes(missed).stores, "what it missed is caught up")
        assert "03" in up.stripes(missed).stores
        assert {link: up.stripes(link) for link in before} == before, "nothing else was touched"

        # Dead: a new one takes its place.
        up.unplug("05")
        up.until(lambda: up.stores()["05"]["condition"] == "down", "it is seen to be down")
        done = command(up, "replace", "05", "new-05", str(tmp_path / "new-05"), "--wait")
        assert done.returncode == 0, (done.stdout, done.stderr, up.logs())
        assert "new-05 has taken the place of 05" in done.stdout
        assert "05" not in up.stores() and naming(up, list(bodies), "05") == []
        for link in bodies:
            found = up.get(f"/api/check/{link.lstrip('/')}?mode=hard").json
            assert found["state"] == "healthy", found
        kinds = {event["kind"] for event in up.get("/api/events?limit=500").json["events"]}
        assert {"store-down", "store-lost"} <= kinds
