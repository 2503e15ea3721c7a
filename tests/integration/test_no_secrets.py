"""A full run of `up`, and then a look for each secret in everything that it wrote."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time

import pytest
from nacl.signing import SigningKey

from tests.fakes.canaries import all_of_redis, command_lines, leaks
from tests.fakes.ports import free_port
from tests.fakes.running_up import ROOT, Up, content_of
from zerostor.core.sign_in import KnownKey, Role, key_line, login_message
from zerostor.stores.folder_marker import initialise

JSON = {"Content-Type": "application/json"}


class Canaries(Up):
    """`up` with a secret in each place that takes one."""

    def __init__(self, folder, mode):
        super().__init__(folder)
        self.secrets = {}
        self.own = {}
        self.said = {}
        listen = free_port()
        files = {name: self._file(name) for name in ("gateway", "metadata", "store", "cluster")}
        stores = "".join(self._store(f"s{number}") for number in range(3))
        opened = f'secret_file = "{files["gateway"]}"' if mode == "secret" else (
            f'keys_file = "{folder.with_suffix(".keys")}"')
        # Of a cluster the key of the gateway is made from its secret, and is in no file.
        cluster = (f'[cluster]\nadvertise = "http://127.0.0.1:{self.port}"\n'
                   f'secret_file = "{files["cluster"]}"\n') if mode == "secret" else ""
        self.settings.write_text(
            f'[gateway]\nsecurity = "{mode}"\n{opened}\n[audit]\nlog = "all"\n'
            f"{cluster}"
            f'[metadata]\nlisten = "127.0.0.1:{listen}"\npassword_file = "{files["metadata"]}"\n'
            f"[policy.default]\ndata = 2\nparity = 2\ndurable = 3\n{stores}"
            # The server answers, and does not let us in.
            f'[[store]]\nname = "far"\nurl = "zdb://127.0.0.1:{listen}/none"\n'
            f'password_file = "{files["store"]}"\n')

    def canary(self, name):
        """A new secret."""
        self.secrets[name] = f"canary{name}{secrets.token_hex(16)}"
        return self.secrets[name]

    def _file(self, name):
        path = self.folder.with_suffix(f".{name}")
        path.write_text(self.canary(name))
        return path

    def _store(self, name):
        folder = self.folder.parent / "disks" / name
        folder.mkdir(parents=True)
        initialise(str(folder), name)
        return f'[[store]]\nname = "{name}"\nurl = "dir://{folder}"\n'

    def hear(self, place, answer):
        """What an answer says is among what was written; its id is not asked for twice."""
        self.said[f"{place} {len(self.said)}"] = f"{answer.headers}\n{answer.body[:10_000]!r}"
        return answer

    def command(self, *words):
        """A command for this DATA: what it says."""
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *words, "--data", str(self.folder), "--config",
             str(self.settings)], cwd=ROOT, capture_output=True, text=True, timeout=120)
        self.said[" ".join(words)] = done.stdout + done.stderr

    def live(self, bearer, secret):
        """All that people do, right and wrong."""
        wrong, typed = self.canary("wrong"), self.canary("typed")
        opens = {"Authorization": f"Bearer {bearer}"}
        self.hear("store", self.upload(content_of(50_000), opens, ext="bin", wait=60))
        self.hear("accept", self.upload(content_of(3_000_000), opens, private=1))
        self.hear("query", self.upload(b"x", None, secret=secret, wait=60))
        self.hear("wrong", self.upload(b"x", {"Authorization": f"Bearer {wrong}"}))
        self.hear("typed", self.upload(b"x", None, secret=typed))
        for path in ("/api/stores", "/api/jobs", "/metrics", "/readyz", "/api/nodes", "/none",
                     f"/{'0' * 56}", "/not-a-link", "/api/sessions", "/openapi.json",
                     "/api/telemetry", "/api/ssh/homes", "/api/status/none", "/%00", "/docs"):
            for asked in (f"{path}?secret={secret}", f"{path}?secret={typed}"):
                self.hear(path, self.get(asked))
            self.hear(path, self.get(path, opens))
        for path in ("/api/nodes/add", "/api/ssh/enable", "/api/sessions/revoke",
                     "/api/authenticate"):
            for body in ({"name": "n"}, {"session": secret}, {"key": secret, "date": "1"}):
                self.hear(path, self.ask("POST", f"{path}?secret={secret}",
                                         json.dumps(body).encode(), JSON))

    def suffer(self, bearer):
        """What fails and dies."""
        opens = {"Authorization": f"Bearer {bearer}"}
        with self.stopped("redis"):
            self.until(lambda: self.get("/readyz").status == 503, "it is not ready")
            self.hear("readyz", self.get("/readyz", opens))
        self.ready()
        with self.raw() as uploading:
            uploading.sendall(b"POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
                              + f"Authorization: Bearer {bearer}\r\n\r\n".encode() + b"x" * 50_000)
            self.kill("gateway")
        self.kill("worker")
        self.ready()
        self.hear("again", self.upload(content_of(9_000), opens, wait=60))

    def found(self):
        """Where a secret is, after all."""
        self.command("config")
        self.command("audit", "--lines", "100000")
        self.said["redis"] = all_of_redis(self.folder / "run" / "redis.sock")
        self.said["command lines"] = command_lines(self.children().values())
        self.kill_all()
        self.said["screen"] = self.screen()
        return leaks(self.secrets, self.folder, self.said, self.own)


@pytest.fixture
def made(tmp_path):
    running = []

    def make(mode):
        running.append(Canaries(tmp_path / "zerostor", mode))
        return running[-1]

    yield make
    for up in running:
        up.close()


def test_mode_secret_writes_no_secret(made):
    up = made("secret")
    up.start()
    up.live(up.secrets["gateway"], up.secrets["gateway"])
    up.suffer(up.secrets["gateway"])
    assert up.found() == []
    log = (up.folder / "logs" / "audit.jsonl").read_text().splitlines()
    # It was looked for where something was to be found.
    assert {json.loads(line)["status"] for line in log} >= {200, 202, 401, 404}
    assert "far" in up.said["config"]
    # And what is planted is found, in every kind of place.
    (up.folder / "logs" / "zdb.log").open("a").write(f"x{up.secrets['store']}x")
    (up.folder / "spool" / "planted").write_bytes(up.secrets["cluster"].encode().hex().encode())
    up.said["redis"] += up.secrets["typed"]
    assert leaks(up.secrets, up.folder, up.said, up.own) == [
        "store in logs/zdb.log", "cluster in spool/planted", "typed in redis"]


def test_mode_keys_writes_no_secret(made):
    up = made("keys")
    key = SigningKey(os.urandom(32))
    up.secrets["user"] = bytes(key).hex()
    known = KnownKey(bytes(key.verify_key), "boss", Role.ADMIN)
    up.folder.with_suffix(".keys").write_text(key_line(known) + "\n")
    up.start()
    identity = up.folder / "identity.key"
    up.secrets["identity"], up.own["identity"] = identity.read_text().strip(), identity
    date, gateway = f"{time.time():.6f}", bytes.fromhex(up.get("/api/pubkey").body.decode())
    login = {"key": bytes(key.verify_key).hex(), "date": date,
             "signature": key.sign(login_message(gateway, date)).signature.hex()}
    signed_in = up.ask("POST", "/api/authenticate", json.dumps(login).encode(), JSON)
    token = up.secrets["token"] = signed_in.json["secret"]
    assert up.ask("POST", "/api/authenticate", json.dumps(login).encode(), JSON).status == 401
    up.live(token, token)
    up.suffer(token)
    assert up.found() == []
    told = (up.folder / "logs" / "audit.jsonl").read_text()
    assert login["key"][:16] in told and '"who":"boss"' in told
