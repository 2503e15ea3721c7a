"""A real `zerostor up` for tests: on a free port, asked over HTTP, killed, started again."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import urlencode

import psutil
import redis

from tests.fakes.ports import free_port
from zerostor.core.record import ObjectRecord, PackRecord, StripeSet, decode_record
from zerostor.engine.log_parts import ARCHIVE_JOB
from zerostor.metadata.zdb import ZdbMetadata
from zerostor.resp_client import Address

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
"""Seconds after which a test gives up waiting; far above what anything takes."""
AWAY = (OSError, http.client.HTTPException, redis.RedisError)
"""What a client sees while a process is not there."""
JSON = {"Accept": "application/json"}
PR_SET_PDEATHSIG, PR_CAPBSET_DROP = 1, 24
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
_T = TypeVar("_T")


class Answer(NamedTuple):
    """An HTTP answer, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def link(self) -> str:
        """Of an upload that was stored, as a path."""
        assert self.status == 200, (self.status, self.body)
        return str(self.json["link"])

    @property
    def job(self) -> str:
        """Of an upload that was accepted."""
        assert self.status == 202, (self.status, self.body)
        return str(self.json["job"])


class Up:
    """`python -m gateway up` on `folder`. settings: more of zerostor.toml; before: run in front."""

    def __init__(self, folder: Path, settings: str = "") -> None:
        self.folder = folder
        self.port = free_port()
        self.screen_file = folder.with_suffix(".screen")
        self.settings = folder.with_suffix(".toml")
        self.settings.write_text(settings)
        self.process: subprocess.Popen[bytes] | None = None
        self._seen: dict[int, float] = {}

    # Its processes.

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until an upload would work."""
        assert self.process is None
        command = [sys.executable, "-m", "gateway", "up", "--data", str(self.folder),
                   "--config", str(self.settings), "--listen", f"127.0.0.1:{self.port}"]
        with open(self.screen_file, "ab") as screen:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=screen, stderr=screen,
                                            stdin=subprocess.DEVNULL, preexec_fn=tied)
        if wait:
            self.ready()

    def ready(self) -> None:
        """Wait until an upload would work."""
        self.until(lambda: self.get("/readyz").status == 200, "it is ready")

    def command(self, *words: str, code: int = 0) -> str:
        """What a command with this folder and its settings prints, errors included."""
        ended = subprocess.run(
            [sys.executable, "-m", "gateway", *words, "--data", str(self.folder), "--config",
             str(self.settings)], cwd=ROOT, capture_output=True, text=True, timeout=120,
            check=False)
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    def until(self, true: Callable[[], _T], what: str, seconds: float = PATIENCE) -> _T:
        """Ask until the answer is true; a gateway that is away meanwhile is no failure."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(*AWAY):
                found = true()
                if found:
                    return found
            assert time.monotonic() < end, f"not in time: {what}\n{self.screen()}{self.logs()}"
            time.sleep(0.05)

    def children(self) -> dict[str, psutil.Process]:
        """By name: redis, zdb, worker, gateway; those that run now."""
        found = {}
        assert self.process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    name = _name(child.cmdline())
                    if name and child.status() != psutil.STATUS_ZOMBIE:
                        found[name] = child
                        self._seen[child.pid] = child.create_time()
        return found

    def pid(self, name: str) -> int:
        """Of a child, once it runs."""
        return self.until(lambda: self.children().get(name), f"{name} runs").pid

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to a child; its pid."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    @contextlib.contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """A child that does not move while the block runs."""
        pid = self.kill(name, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def kill_all(self) -> None:
        """kill -9 of `up` and of everything it started."""
        assert self.process is not None
        children = self.children()
        self.process.kill()
        for child in children.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self._ended()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it as a user does; its exit code."""
        assert self.process is not None
        self.children()
        self.process.send_signal(number)
        return self._ended()

    def close(self) -> None:
        """End it whatever state it is in, and leave nothing running."""
        if self.process is not None:
            for child in self.children().values():
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.resume()
            try:
                self.stop()
            except (subprocess.TimeoutExpired, AssertionError):
                self.process.kill()
                self.process.wait()
                for pid in self._alive():
                    os.kill(pid, signal.SIGKILL)
                raise

    def _ended(self) -> int:
        assert self.process is not None
        code = self.process.wait(PATIENCE)
        self.until(lambda: not self._alive(), "no orphan is left")
        self.process = None
        self._seen.clear()
        return code

    def _alive(self) -> list[int]:
        alive = []
        for pid, created in self._seen.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(pid)
        return alive

    def screen(self) -> str:
        """What it printed."""
        return self.screen_file.read_text()

    def logs(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}"
                         for log in sorted(self.folder.glob("logs/*.log")))

    # Its HTTP.

    def ask(self, method: str, path: str, body: Any = None,
            headers: Mapping[str, str] | None = None, timeout: float = 90.0) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """GET."""
        return self.ask("GET", path, None, headers)

    def upload(self, body: Any, headers: Mapping[str, str] | None = None,
               **query: object) -> Answer:
        """POST /api/upload; an iterable body goes in chunks."""
        return self.ask("POST", f"/api/upload?{urlencode(query)}", body, headers)

    def store(self, body: bytes, ext: str = "bin") -> str:
        """Upload and wait; the link as a path."""
        return self.upload(body, ext=ext, wait=60).link

    def status(self, job: str, wait: float = 0) -> dict[str, Any]:
        """A job as JSON."""
        answer = self.get(f"/api/status/{job}?wait={wait:g}", JSON)
        assert answer.status == 200, (answer.status, answer.body)
        found: dict[str, Any] = answer.json
        return found

    def stored(self, job: str) -> str:
        """The link of a job, once it is done, as a path."""
        def ended() -> dict[str, Any] | None:
            found = self.status(job, wait=5)
            return found if found["state"] in ("DONE", "ERROR") else None

        found = self.until(ended, f"job {job} ends", 60.0)
        assert found["state"] == "DONE", found
        return str(found["link"])

    def raw(self) -> socket.socket:
        """A connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def jobs(self) -> dict[str, Any]:
        """How much waits and runs."""
        answer = self.get("/api/jobs")
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json
        return found

    def idle(self) -> bool:
        """Nothing waits or runs anywhere."""
        jobs = self.jobs()
        return not any(jobs[kind] for kind in ("waiting", "running", "delayed", "spool"))

    def stores(self) -> dict[str, dict[str, Any]]:
        """What the gateway thinks of each store, by name."""
        return {store["name"]: store for store in self.get("/api/stores").json["stores"]}

    def redis(self, *words: str) -> object:
        """One command to the embedded Redis."""
        with redis.Redis(unix_socket_path=str(self.folder / "run" / "redis.sock")) as client:
            return client.execute_command(*words)

    # Its files.

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    def spool_left(self) -> list[str]:
        """Uploads in the spool: arriving, waiting, or anything that should not be there."""
        kept = {"failed", "recycled", "receipts", "receipts.1", "id"}
        return sorted(set(os.listdir(self.spool)) - kept)

    def failed(self) -> list[dict[str, Any]]:
        """The dead-letter list."""
        found: list[dict[str, Any]] = self.jobs()["failed"]
        return found

    def records(self) -> list[ObjectRecord]:
        """The record of every upload, read from the metadata server.

        Not those of copies of the metadata log, which are made now and then.
        """
        return [record for record in asyncio.run(self._records())
                if isinstance(record, ObjectRecord) and record.job != ARCHIVE_JOB]

    async def _records(self) -> list[object]:
        metadata = ZdbMetadata(Address(unix=self.folder / "run" / "zdb.sock"))
        try:
            return [decode_record(stored) async for _, stored in metadata.scan()]
        finally:
            await metadata.close()

    def stripes(self, link: str) -> StripeSet:
        """What the metadata says of where the bytes of an object are."""
        rows = asyncio.run(self._by_id())
        record = rows[int(link.lstrip("/")[48:56], 16)]
        assert isinstance(record, ObjectRecord)
        pack = rows[record.pack] if record.pack is not None else None
        stripes = pack.stripes if isinstance(pack, PackRecord) else record.stripes
        assert stripes is not None
        return stripes

    def shards(self, link: str) -> list[Path]:
        """The file of each shard of an object, wherever its bytes begin in it, by index."""
        stripes = self.stripes(link)
        keys = [f"{stripes.key.hex()}-{index:02d}" for index in range(len(stripes.stores))]
        return [self.folder / "stores" / store / key[:2] / key
                for store, key in zip(stripes.stores, keys, strict=True)]

    async def _by_id(self) -> dict[int, object]:
        metadata = ZdbMetadata(Address(unix=self.folder / "run" / "zdb.sock"))
        try:
            return {number: decode_record(stored) async for number, stored in metadata.scan()}
        finally:
            await metadata.close()

    @contextlib.contextmanager
    def unplugged(self, *stores: str) -> Iterator[None]:
        """Stores whose folders are away while the block runs, and back, in order, after it."""
        for store in stores:
            self.unplug(store)
        try:
            yield
        finally:
            for store in stores:
                self.plug(store)

    def unplug(self, store: str) -> None:
        """Take the folder of a store away."""
        os.rename(self.folder / "stores" / store, self.folder / f"unplugged-{store}")

    def plug(self, store: str) -> None:
        """Bring it back."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.folder / f"unplugged-{store}", self.folder / "stores" / store)

    def all_up(self) -> None:
        """Wait until the gateway sees all its stores."""
        self.until(lambda: all(store["state"] == "up" for store in self.stores().values()),
                   "all stores are up")


def content_of(size: int, seed: int = 0) -> bytes:
    """Bytes that repeat nowhere, the same for the same arguments."""
    return random.Random(size * 1_000_003 + seed).randbytes(size)


def digest(body: bytes) -> str:
    """Short, for messages of tests that compare large bodies."""
    return f"{len(body)} bytes, {hashlib.sha256(body).hexdigest()[:16]}"


def has_strace() -> bool:
    """Whether faults can be put into system calls of running processes here."""
    return sys.platform == "linux" and shutil.which("strace") is not None


@contextlib.contextmanager
def strace(pid: int, *rules: str, output: Path = Path(os.devnull)) -> Iterator[None]:
    """System calls of a running process misbehave by `rules` while the block runs."""
    command = ["strace", "-f", "-q", "-p", str(pid), "-o", str(output), *rules]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE
        while not _traced(pid):
            assert tracer.poll() is None and time.monotonic() < end, tracer.stderr.read()
            time.sleep(0.02)
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=PATIENCE)


def _traced(pid: int) -> bool:
    """Every thread of it."""
    return all("TracerPid:\t0\n" not in (task / "status").read_text()
               for task in Path(f"/proc/{pid}/task").iterdir())


def _name(command: list[str]) -> str:
    if not command:
        return ""
    if "redis" in command[0] or "valkey" in command[0]:
        return "redis"
    return command[3] if command[1:3] == ["-m", "gateway"] else ""


def tied() -> None:
    """It ends with the test; and as root it may not read what nobody may read (chmod 000)."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
