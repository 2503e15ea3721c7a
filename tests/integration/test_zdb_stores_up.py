"""A whole zerostor whose shards lie in 0-db namespaces: servers killed, away, and back."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.fakes.running_up import ROOT, Answer, Up, content_of, digest
from tests.fakes.zdb_servers import REAL, ZdbProcess, real_process
from zerostor.core.limits import MIB

SIZES = [100, 70_000, 3 * MIB + 1, 17 * MIB + 12_345]
SERVERS, EACH = 5, 4
PASSWORD = "a password of the admin"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ZdbProcess]]:
    folder = tmp_path_factory.mktemp("zdb")
    secret = folder / "secret"
    secret.write_text(PASSWORD)
    made = [ZdbProcess(folder / f"server-{number}", admin=secret) for number in range(SERVERS)]
    binary = os.environ.get(REAL)
    if binary:  # stands beside ours, by the same addresses
        made[1] = real_process(folder, binary, "--admin", PASSWORD, "--sync")
    for server in made:
        server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(REAL, raising=False)  # no setting, which a zerostor would refuse
        yield made
    for server in made:
        server.kill()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, servers: list[ZdbProcess]) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    secret = folder / "secret"
    secret.write_text(PASSWORD)
    stores = "".join(
        f'[[store]]\nname = "{number}-{each}"\npassword_file = "{secret}"\n'
        f'url = "zdb://127.0.0.1:{server.port}/shards-{each}?mode=user"\n'
        for number, server in enumerate(servers) for each in range(EACH))
    running = Up(folder / "zerostor", f"[policy.default]\ndurable = 16\n{stores}")
    try:
        told = zerostor(running, "config", code=1)
        assert told.stdout.count("NSNEW") == 20, told.stdout
        assert zerostor(running, "stores", "init", "--all").stdout.count("is ready") == 20
        told = zerostor(running, "config")
        assert told.stdout.count(": ok") == 20, told.stdout
        assert PASSWORD not in told.stdout
        running.start()
        assert "warning" not in running.screen()
        yield running
    finally:
        running.close()


def zerostor(up: Up, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    found = subprocess.run(
        [sys.executable, "-m", "gateway", *words, "--data", str(up.folder), "--config",
         str(up.settings)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == code, found.stdout + found.stderr
    return found


@contextlib.contextmanager
def killed(up: Up, *servers: ZdbProcess) -> Iterator[None]:
    """kill -9 now, and back after the block."""
    for server in servers:
        server.kill()
    try:
        yield
    finally:
        for server in servers:
            server.start()
        up.all_up()


def right(answer: Answer, body: bytes) -> None:
    assert (answer.status, digest(answer.body)) == (200, digest(body)), answer.body[:300]


def test_what_goes_in_comes_out_whichever_server_was_killed(
    up: Up, servers: list[ZdbProcess]
) -> None:
    bodies = {size: content_of(size) for size in SIZES}
    links = {size: up.store(body) for size, body in bodies.items()}
    for size, link in links.items():
        right(up.get(link), bodies[size])
        part = up.get(link, {"Range": "bytes=50-89"})
        assert (part.status, part.body) == (206, bodies[size][50:90])
    with killed(up, servers[0]):
        for size, link in links.items():
            right(up.get(link), bodies[size])
        new = content_of(5 * MIB, 7)
        newer = up.store(new)
        right(up.get(newer), new)
        assert up.stripes(newer).stores.count("") == EACH
        where = f":{servers[0].port}"
        up.until(lambda: where in up.stores()["0-0"]["reason"], "the reason is told")
    for size, link in links.items():
        right(up.get(link), bodies[size])
    right(up.get(newer), new)


def test_too_many_servers_away_is_a_clean_failure_and_nothing_is_lost(
    up: Up, servers: list[ZdbProcess]
) -> None:
    body = content_of(2 * MIB + 5, 3)
    link = up.store(body)
    with killed(up, servers[1], servers[3]):
        up.until(lambda: [store["state"] for store in up.stores().values()].count("down") == 8,
                 "the gateway knows")
        answer = up.get(link)
        assert (answer.status, answer.json["type"]) == (503, "urn:zerostor:object-unreadable")
        job = up.upload(b"accepted all the same", ext="txt").job
        up.until(lambda: "stores are up" in str(up.status(job)) or "could be written"
                 in str(up.status(job)), "the job waits and says why")
    right(up.get(link), body)
    right(up.get(up.stored(job)), b"accepted all the same")


def test_everything_killed_at_once_keeps_what_was_stored(
    up: Up, servers: list[ZdbProcess]
) -> None:
    bodies = [content_of(size, 11) for size in SIZES]
    links = [up.store(body) for body in bodies]
    up.kill_all()
    for server in servers:
        server.kill()
    for server in servers:
        server.start()
    servers[4].kill()
    up.start()
    up.until(lambda: up.screen().count("warning: store 4-") == EACH, "it warns of each")
    servers[4].start()
    for link, body in zip(links, bodies, strict=True):
        right(up.get(link), body)
