"""A worker with the spool of another gateway, over real HTTP: leases, resuming, tokens, batches."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
from pathlib import Path

import msgspec
import pytest

from gateway import leases
from gateway.home_link import HomeLink
from gateway.reconciler import reconcile_once
from gateway.routes import spool as routes
from gateway.waiters import Waiters
from tests.fakes.remote_spool import SECRET, SpoolServer
from tests.fakes.spool_folder import LINK, accept, job_of, refused, take
from zerostor.core.cluster_token import TOKEN_SECONDS, ClusterKey
from zerostor.core.errors import (
    BackendError,
    Busy,
    NotAllowed,
    SetupError,
    SpoolAway,
    UnknownJob,
    ZerostorError,
)
from zerostor.core.jobs import JobState, JobUpdate, SpoolNote, Upload
from zerostor.core.limits import MIB
from zerostor.core.spool_protocol import INLINE_MAX, Ask, decode_ask
from zerostor.spool.directory import DirectorySpool
from zerostor.spool.entry import DirectorySpoolEntry
from zerostor.spool.remote import RemoteSpool
from zerostor.spool.remote_entry import RemoteEntry
from zerostor.spool.routed import RoutedSpools

PATIENCE = 60.0
SIZES = (0, 1, INLINE_MAX, INLINE_MAX + 1, 2 * MIB, 5 * MIB + 3)


def body_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed * 1_000_003 + size).randbytes(size)


async def whole(entry) -> bytes:
    """The body as the writer reads it: stripe by stripe, `arrival` first."""
    stripe, body = memoryview(bytearray(MIB)), b""
    while True:
        await entry.arrival(len(body) + len(stripe) - 1)
        got = await asyncio.to_thread(entry.read, stripe, len(body))
        body += stripe[:got]
        if got < len(stripe):
            return body


async def test_entries_are_what_they_are_at_home(
        server: SpoolServer, worker: RemoteSpool, tmp_path: Path) -> None:
    bodies = [body_of(size) for size in SIZES]
    jobs = [await accept(server.spool, number, body, salt=body_of(32) if number % 2 else b"")
            for number, body in enumerate(bodies)]
    entries = await worker.open([*jobs, job_of(99)])
    assert isinstance(entries.pop(), UnknownJob)
    for number, (entry, body) in enumerate(zip(entries, bodies, strict=True)):
        assert isinstance(entry, RemoteEntry)
        assert entry.upload is not None
        assert bool(entry.upload.salt) is bool(number % 2)
        assert (entry.upload.size, entry.upload.ext) == (len(body), "bin")
        if entry.upload.size <= 2 * MIB:
            into = memoryview(bytearray(len(body)))
            assert entry.read(into, 0) == len(body)
            assert into == body
        assert await whole(entry) == body
    assert isinstance(await refused(server.spool, jobs[0]), Busy), "its lock is held"
    for number, entry in enumerate(entries):
        entry.note = SpoolNote(number, 1, "")
    await worker.write_notes(entries)
    await worker.release(entries[:1])
    again = await take(server.spool, jobs[0])
    assert again.note == SpoolNote(0, 1, "")
    await server.spool.release([again])
    await worker.finish([(entry, LINK) for entry in entries[1:]])
    assert [job for job, _ in await server.spool.waiting()] == jobs[:1]
    known = await worker.status(jobs[1])
    assert known is not None
    assert (known.state, known.detail) == (JobState.DONE, LINK)
    assert await worker.status(job_of(99)) is None
    assert os.listdir(tmp_path / "worker") == []


async def test_a_pack_costs_a_request_a_step_and_not_one_a_job(
        server: SpoolServer, worker: RemoteSpool) -> None:
    jobs = [await accept(server.spool, number, body_of(10_000, number)) for number in range(128)]
    entries = await worker.open(jobs)
    await worker.write_notes(entries)
    assert [await whole(entry) for entry in entries] == [body_of(10_000, n) for n in range(128)]
    await worker.finish([(entry, LINK) for entry in entries])
    assert [verb for verb in server.requests if verb != "renew"] == ["open", "notes", "finish"]
    assert await server.spool.waiting() == []


async def test_one_worker_at_a_time(
        server: SpoolServer, worker: RemoteSpool, tmp_path: Path) -> None:
    job = await accept(server.spool, 1)
    entry, = await worker.open([job])
    async with server.worker(tmp_path / "other", "w2") as other:
        assert isinstance((await other.open([job]))[0], Busy)
        assert isinstance((await worker.open([job]))[0], Busy), "it has it already"
        with pytest.raises(Busy):
            await other.fail(job, "no")
        await worker.release([entry])
        assert isinstance((await other.open([job]))[0], RemoteEntry)


async def test_one_of_many_follows_an_upload(
        server: SpoolServer, worker: RemoteSpool, tmp_path: Path) -> None:
    """One that arrives has no lock; the gateway lends it to one worker all the same."""
    writer = await server.spool.create(job_of(1), None, durable=False)
    await writer.write([body_of(MIB)])
    async with contextlib.AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(server.worker(tmp_path / f"w{n}", f"w{n}"))
                   for n in range(6)]
        opened = await asyncio.gather(*(one.open([job_of(1)]) for one in workers))
        assert sum(isinstance(entry, RemoteEntry) for entry, in opened) == 1
        assert sum(isinstance(entry, Busy) for entry, in opened) == 5
    await writer.close()


async def test_the_lease_of_a_dead_worker_ends_and_not_that_of_a_living_one(
        server: SpoolServer, worker: RemoteSpool, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.6)
    monkeypatch.setattr("zerostor.spool.remote.RENEW_SECONDS", 0.1)
    monkeypatch.setattr(leases, "SWEEP_SECONDS", 0.05)
    sweeper = asyncio.ensure_future(server.leases.run())
    jobs = [await accept(server.spool, number) for number in range(2)]
    async with server.worker(tmp_path / "dead", "w2") as dead:
        gone, = await dead.open(jobs[:1])
        mine, = await worker.open(jobs[1:])
        assert dead._renewal is not None
        dead._renewal.cancel()
        async with asyncio.timeout(PATIENCE):
            while not isinstance((await worker.open(jobs[:1]))[0], RemoteEntry):
                await asyncio.sleep(0.05)
        assert isinstance(await refused(server.spool, jobs[1]), Busy)
        # Too late: what it notes or ends now is refused, and nothing is lost by it.
        gone.note.metadata_id = 7
        with pytest.raises(Busy):
            await dead.write_notes([gone])
        with pytest.raises(Busy):
            await dead.finish([(gone, LINK)])
    await worker.finish([(mine, LINK)])
    assert [job for job, _ in await server.spool.waiting()] == jobs[:1]
    sweeper.cancel()


async def test_a_gateway_that_was_started_again_takes_the_end_of_what_was_stored_meanwhile(
        server: SpoolServer, worker: RemoteSpool) -> None:
    """Its leases are gone. What is stored under the noted id is finished; anything else is not."""
    jobs = [await accept(server.spool, number) for number in range(3)]
    entries = await worker.open(jobs)
    for entry in entries[:2]:
        entry.note.metadata_id = int(LINK[48:56], 16)
    entries[2].note.metadata_id = 1
    await worker.write_notes(entries)
    await server.stop()
    with pytest.raises(SpoolAway):
        await worker.write_notes(entries)
    await server.start()
    with pytest.raises(Busy):
        await worker.write_notes(entries)
    await worker.finish([(entry, LINK) for entry in entries[:2]])
    await worker.finish([(entry, LINK) for entry in entries[:2]])  # as after a lost answer
    with pytest.raises(Busy):
        await worker.finish([(entries[2], LINK)])
    assert [job for job, _ in await server.spool.waiting()] == jobs[2:]
    assert isinstance((await worker.open(jobs[2:]))[0], RemoteEntry), "it can be had again"


async def test_a_gateway_that_is_away_is_tried_once_in_a_while(
        server: SpoolServer, worker: RemoteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await accept(server.spool, 1)
    await worker.status(job)
    await server.stop()
    asked = 0
    post = worker._gateways._link.post

    async def counted(*arguments):
        nonlocal asked
        asked += 1
        return await post(*arguments)

    monkeypatch.setattr(worker._gateways._link, "post", counted)
    for _ in range(50):
        with pytest.raises(SpoolAway, match=server.url):
            await worker.open([job])
    assert asked <= 2
    await server.start()
    worker._away_until = 0
    assert isinstance((await worker.open([job]))[0], RemoteEntry)


async def test_a_body_goes_on_where_it_was_cut(
        server: SpoolServer, worker: RemoteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    body = body_of(6 * MIB)
    job = await accept(server.spool, 1, body)
    rng = random.Random(5)
    read, sent = DirectorySpoolEntry.read, []

    def cut(self: DirectorySpoolEntry, into: memoryview, offset: int) -> int:
        sent.append(offset)
        if len(sent) % 3 == 2:
            raise OSError("the connection ends here")
        return read(self, into[: rng.randrange(1, MIB)], offset)

    monkeypatch.setattr(DirectorySpoolEntry, "read", cut)
    entry, = await worker.open([job])
    assert await whole(entry) == body
    assert sent.count(0) < 3, "it never began anew"


async def test_a_body_damaged_on_its_way_is_no_fault_of_the_upload(
        server: SpoolServer, worker: RemoteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [await accept(server.spool, number, body_of(size)) for number, size in
            enumerate((100, 3 * MIB))]
    read, places = DirectorySpoolEntry.read, itertools.count()

    def flipped(self: DirectorySpoolEntry, into: memoryview, offset: int) -> int:
        got = read(self, into, offset)
        into[next(places)] ^= 1
        return got

    monkeypatch.setattr(DirectorySpoolEntry, "read", flipped)
    small, large = await worker.open(jobs)
    assert type(small) is BackendError
    with pytest.raises(BackendError, match="damaged on its way"):
        await whole(large)
    await worker.release([large])
    monkeypatch.undo()
    for entry, size in zip(await worker.open(jobs), (100, 3 * MIB), strict=True):
        assert await whole(entry) == body_of(size)


async def test_an_upload_is_followed_while_it_arrives(
        server: SpoolServer, worker: RemoteSpool) -> None:
    body = body_of(7 * MIB)
    writer = await server.spool.create(job_of(1), len(body), durable=False)
    await writer.write([body[:MIB]])
    entry, = await worker.open([job_of(1)])
    assert isinstance(entry, RemoteEntry)
    assert (entry.upload, entry.expected) == (None, len(body))
    beside = await take(server.spool, job_of(1))
    beside.note.metadata_id = 9
    await server.spool.write_notes([beside])
    following = asyncio.ensure_future(whole(entry))
    for start in range(MIB, len(body), MIB):
        await writer.write([body[start : start + MIB]])
        await asyncio.sleep(0.01)
    await writer.seal([], Upload(job_of(1), "bin", "default", 0))
    await writer.close()
    async with asyncio.timeout(PATIENCE):
        assert await following == body
    assert entry.upload is not None
    assert entry.note.metadata_id == 9, "what another worker noted meanwhile counts"
    assert isinstance(await refused(server.spool, job_of(1)), Busy)
    await worker.finish([(entry, LINK)])
    assert await server.spool.waiting() == []


async def test_an_upload_that_is_abandoned_while_it_is_followed(
        server: SpoolServer, worker: RemoteSpool) -> None:
    writer = await server.spool.create(job_of(1), None, durable=False)
    await writer.write([body_of(MIB)])
    entry, = await worker.open([job_of(1)])
    following = asyncio.ensure_future(whole(entry))
    await asyncio.sleep(0.05)
    await writer.close()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(UnknownJob):
            await following


async def test_a_gateway_whose_disk_is_not_mounted_does_not_speak_for_it(
        server: SpoolServer, worker: RemoteSpool, tmp_path: Path) -> None:
    """It has an empty spool at the same address; the jobs of the other one are not unknown."""
    job = await accept(server.spool, 1)
    mounted, server.spool = server.spool, DirectorySpool(tmp_path / "empty", reserve=0)
    await server.stop()
    await server.start()
    for question in (worker.open([job]), worker.status(job), worker.fail(job, "unknown")):
        with pytest.raises(SpoolAway, match="has another spool now"):
            await question
    await server.spool.close()
    server.spool = mounted
    await server.stop()
    await server.start()
    worker._away_until = 0
    assert isinstance((await worker.open([job]))[0], RemoteEntry)


async def test_a_secret_that_is_another_one(server: SpoolServer, tmp_path: Path) -> None:
    job = await accept(server.spool, 1)
    async with server.worker(tmp_path / "w", secret="not that one") as stranger:
        with pytest.raises(SpoolAway, match=r"has another secret.*cluster\.secret_file"):
            await stranger.open([job])
        await server.queue.announce(server.spool.id, ClusterKey("not that one").place(
            server.spool.id, server.url))
        stranger._gateways._ask_at = stranger._away_until = 0.0
        with pytest.raises(SpoolAway, match="refuses our token"):
            await stranger.open([job])
    entry = await take(server.spool, job)
    await server.spool.release([entry])


async def test_a_gateway_that_does_not_know_the_secret_is_not_believed(
        server: SpoolServer, worker: RemoteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await accept(server.spool, 1)
    monkeypatch.setattr(ClusterKey, "seal", lambda *_: "ab" * 32)
    with pytest.raises(SpoolAway, match="does not know the secret"):
        await worker.open([job])


async def test_a_status_is_asked_of_the_gateway_that_knows_it(
        server: SpoolServer, worker: RemoteSpool, tmp_path: Path) -> None:
    """Redis lost everything; another gateway finds what the spool knows, or says who is away."""
    stored, waiting = [await accept(server.spool, number) for number in range(2)]
    entry = await take(server.spool, stored)
    await server.spool.finish([(entry, LINK)])
    own = DirectorySpool(tmp_path / "own", reserve=0)
    spools = RoutedSpools(own, lambda _: worker, worker._gateways.known)
    waiters = Waiters(server.queue, own, spools, HomeLink(tmp_path / "none", enabled=False))
    known = await waiters.wait(stored, 0)
    assert known is not None
    assert (known.state, known.detail) == (JobState.DONE, LINK)
    assert await waiters.status(waiting) == JobUpdate(waiting, JobState.ACTIVE)
    assert await waiters.status(job_of(99)) is None
    asked = len(server.requests)
    await server.queue.add([job_of(98)])
    assert await waiters.status(job_of(98)) is not None
    assert len(server.requests) == asked, "what Redis knows is asked of nobody"
    await server.stop()
    with pytest.raises(SpoolAway, match=server.url):
        await waiters.status(job_of(99))
    await server.start()
    await own.close()


async def test_a_spool_without_an_id_is_told_and_comes_back(tmp_path: Path) -> None:
    spool = DirectorySpool(tmp_path / "spool", reserve=0)
    (tmp_path / "spool" / "id").write_text("nonsense")
    with pytest.raises(SetupError, match="32 hex digits"):
        _ = spool.id
    assert RoutedSpools(spool).at("") is spool, "jobs that name none are still this host's"
    (tmp_path / "spool" / "id").unlink()
    others = [DirectorySpool(tmp_path / "spool", reserve=0) for _ in range(3)]
    assert len({spool.id, *(other.id for other in others)}) == 1
    assert sorted(os.listdir(tmp_path / "spool")) == ["failed", "id"]
    for one in (spool, *others):
        await one.close()


async def test_what_ended_without_its_entry_is_queued_again(server: SpoolServer) -> None:
    """Also while the queue is full of the jobs of other gateways."""
    stuck, done = await accept(server.spool, 1), JobUpdate(job_of(1), JobState.DONE, LINK)
    await server.queue.add([job_of(number) for number in range(100, 120)], spool="ab" * 16)
    others = await server.queue.claim(100, 1)
    await server.queue.add([stuck], spool=server.spool.id)
    claim, = await server.queue.claim(1, 1)
    await server.queue.finish([(claim, done)])
    before = await reconcile_once(server.queue, server.spool, set(), everything=True)
    assert await server.queue.claim(1, 0) == [], "it may be about to go"
    await reconcile_once(server.queue, server.spool, before, everything=True)
    again, = await server.queue.claim(1, 1)
    assert (again.job, again.spool) == (stuck, server.spool.id)
    assert len(others) == 20


async def test_a_note_that_a_power_cut_took_is_made_again_of_the_link(server: SpoolServer) -> None:
    """Else the upload would be stored once more, under another link."""
    job, junk = [await accept(server.spool, number) for number in range(2)]
    for one, link in ((job, LINK), (junk, "no link")):
        await server.queue.add([one], spool=server.spool.id)
        claim, = await server.queue.claim(1, 1)
        await server.queue.finish([(claim, JobUpdate(one, JobState.DONE, link))])
    await reconcile_once(server.queue, server.spool, {job, junk}, everything=True)
    claims = await server.queue.claim(2, 1)
    assert sorted(claim.job for claim in claims) == [job, junk]
    entry, other = [await take(server.spool, one) for one in (job, junk)]
    assert (entry.note.metadata_id, other.note.metadata_id) == (int(LINK[48:56], 16), None)
    await server.spool.release([entry, other])


async def test_what_was_stored_is_ended_though_its_note_is_gone(
        server: SpoolServer, worker: RemoteSpool) -> None:
    job, other = [await accept(server.spool, number, bytes(number + 1)) for number in range(2)]
    entries = await worker.open([job, other])
    await server.stop()
    await server.start()
    links = [f"{entry.upload.content.hex()}0000000{place}.bin"
             for place, entry in enumerate(entries)]
    await worker.finish([(entries[0], links[0])])
    with pytest.raises(Busy):
        await worker.finish([(entries[1], links[0])])
    assert [job for job, _ in await server.spool.waiting()] == [other]


async def test_no_other_worker_has_an_entry_before_a_note_is_written(
        server: SpoolServer, worker: RemoteSpool, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is slow, and the lease ends meanwhile: the next one must see that note."""
    monkeypatch.setattr(leases, "SWEEP_SECONDS", 0.01)
    sweeper, writing, slow = (asyncio.ensure_future(server.leases.run()), asyncio.Event(),
                              asyncio.Event())
    write = server.spool.write_notes

    async def slowly(entries) -> None:
        writing.set()
        await slow.wait()
        await write(entries)

    job = await accept(server.spool, 1)
    entry, = await worker.open([job])
    entry.note.metadata_id = 7
    monkeypatch.setattr(server.spool, "write_notes", slowly)
    noting = asyncio.ensure_future(worker.write_notes([entry]))
    await writing.wait()
    assert worker._renewal is not None
    worker._renewal.cancel()
    server.leases._leases[job].ends = 0.0
    await asyncio.sleep(0.1)
    async with server.worker(tmp_path / "other", "w2") as other, asyncio.timeout(PATIENCE):
        assert isinstance((await other.open([job]))[0], Busy)
        slow.set()
        await noting
        while isinstance((again := (await other.open([job]))[0]), Busy):
            await asyncio.sleep(0.01)
        assert again.note.metadata_id == 7
    sweeper.cancel()


async def test_a_note_that_could_not_be_kept_is_not_told_to_anybody(
        server: SpoolServer, worker: RemoteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await accept(server.spool, 1)
    entry, = await worker.open([job])
    entry.note.metadata_id = 7

    async def full(_) -> None:
        raise BackendError("the spool keeps no notes")

    monkeypatch.setattr(server.spool, "write_notes", full)
    with pytest.raises(BackendError):
        await worker.write_notes([entry])
    worker._forget([entry])  # as if the word of it had been lost on its way to the gateway
    again, = await worker.open([job])
    assert isinstance(again, RemoteEntry)
    assert again.note.metadata_id is None


async def test_what_fails_of_one_entry_holds_up_no_other(
        server: SpoolServer, worker: RemoteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    held, lost = [await accept(server.spool, number) for number in range(2)]
    entries = await worker.open([held, lost])
    await server.leases._drop(server.leases._leases[lost])

    async def fails(_: str) -> None:
        raise OSError("the disk of the receipts cannot be read")

    monkeypatch.setattr(server.spool, "status", fails)
    with pytest.raises(BackendError):
        await worker.finish([(entry, LINK) for entry in entries])
    assert [job for job, _ in await server.spool.waiting()] == [lost]
    assert server.leases._leases == {}


async def test_a_worker_that_stops_in_a_body_does_not_keep_the_entry(
        server: SpoolServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (leases, routes):
        monkeypatch.setattr(module, "LEASE_SECONDS", 0.2)
    monkeypatch.setattr(leases, "SWEEP_SECONDS", 0.05)
    sweeper = asyncio.ensure_future(server.leases.run())
    job = await accept(server.spool, 1, bytes(32 * MIB))
    row, = await server.leases.open("w1", Ask([job]))
    token = ClusterKey(SECRET).token("w1", "GET", f"/api/spool/body/{job}", b"",
                                     now=server.clock.now(), nonce=bytes(8))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1000)
    writer.write(f"GET /api/spool/body/{job} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-{32 * MIB}\r\n"
                 f"Authorization: Zerostor {token}\r\nZerostor-Lease: {row.lease}\r\n\r\n".encode())
    assert b" 206 " in await reader.readline()
    async with asyncio.timeout(PATIENCE):
        while server.leases._leases:
            await asyncio.sleep(0.05)
        entry, = await server.spool.open([job])
    assert not isinstance(entry, ZerostorError)
    await server.spool.release([entry])
    writer.close()
    sweeper.cancel()


def test_a_token_is_good_for_one_request_and_minutes() -> None:
    key, now = ClusterKey(SECRET), 1_000_000.0
    token = key.token("w1", "POST", "/api/spool/open", b"jobs", now=now, nonce=bytes(8))
    assert key.check(token, "POST", "/api/spool/open", b"jobs", now=now + 1) == "w1"
    assert SECRET not in token
    assert SECRET not in repr(key)
    wrong = [("GET", "/api/spool/open", b"jobs", now), ("POST", "/api/spool/fail", b"jobs", now),
             ("POST", "/api/spool/open", b"other", now),
             ("POST", "/api/spool/open", b"jobs", now + TOKEN_SECONDS),
             ("POST", "/api/spool/open", b"jobs", now - 2 * TOKEN_SECONDS)]
    for method, path, body, when in wrong:
        with pytest.raises(NotAllowed):
            key.check(token, method, path, body, now=when)
    rng = random.Random(3)
    for _ in range(300):
        place = rng.randrange(len(token))
        damaged = token[:place] + chr(rng.randrange(33, 127)) + token[place + 1:]
        if damaged.lower() != token:
            with pytest.raises(NotAllowed):
                key.check(damaged, "POST", "/api/spool/open", b"jobs", now=now)
    for text in ("", ".", "a.b", "é.é", "x" * 10_000):
        with pytest.raises(NotAllowed):
            key.check(text, "POST", "/api/spool/open", b"jobs", now=now)


@pytest.mark.parametrize("ask", [
    b"", b"\xff", Ask([]), Ask(["ab"]), Ask(["../../etc/passwd"]), Ask(["ab" * 16] * 2),
    Ask([f"{n:032x}" for n in range(300)]), Ask(["ab" * 16], ["x", "y"]),
    Ask(["ab" * 16], texts=["x" * 5000]),
])
def test_questions_that_make_no_sense(ask) -> None:
    with pytest.raises(ZerostorError):
        decode_ask(ask if isinstance(ask, bytes) else msgspec.msgpack.encode(ask))
