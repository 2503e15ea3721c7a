"""Who asks for what is not there learns nothing from the answer: ids are easily counted up."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.fakes.running_up import Up, content_of
from zerostor.core.limits import MIB
from zerostor.core.record import NoteRecord, ObjectRecord, PackRecord, decode_record, encode_record
from zerostor.metadata.zdb import ZdbMetadata
from zerostor.resp_client import Address

WRONG = "00112233445566778899aabbccddeeff0011223344556677"
ITS_OWN_BUSINESS = {"date", "x-request-id"}
"""Headers that differ from answer to answer."""
QUESTIONS = [
    ("GET", "/{}", {}), ("HEAD", "/{}", {}), ("GET", "/{}.jpg", {}), ("HEAD", "/{}.jpg", {}),
    ("GET", "/{}", {"Range": "bytes=0-0"}), ("GET", "/{}", {"If-None-Match": "*"}),
    ("GET", "/{}", {"If-Modified-Since": "Sun, 22 Nov 2026 00:00:00 GMT"}),
    ("GET", "/{}", {"Accept": "application/json"}), ("GET", "/{}", {"Accept-Encoding": "gzip"}),
    ("GET", "/api/exists/{}", {}), ("HEAD", "/api/exists/{}", {}),
    ("GET", "/api/check/{}", {}), ("GET", "/api/check/{}?mode=hard", {}),
    ("PUT", "/{}", {}), ("DELETE", "/{}", {}), ("OPTIONS", "/{}", {}),
]


class Told(NamedTuple):
    """All of an answer but what differs anyway."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Kinds(NamedTuple):
    """An id of each kind, and a hash that some object has."""

    ids: dict[str, int]
    content: str


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with Up(tmp_path_factory.mktemp("misses") / "zerostor") as running:
        yield running


@pytest.fixture(scope="module")
def kinds(up: Up) -> Kinds:
    packed = up.store(b"packed")
    private = up.upload(b"private", private=1, wait=60).link
    alone = up.store(content_of(3 * MIB))
    assert up.get(packed).status == 200, "it is remembered"
    ids = {"packed": number(packed), "private": number(private), "alone": number(alone)}
    ids |= asyncio.run(more(up.folder / "run" / "zdb.sock"))
    return Kinds(ids, packed[1:49])


def number(link: str) -> int:
    return int(link[49:57], 16)


async def more(server: Path) -> dict[str, int]:
    """Ids that are no object's."""
    metadata = ZdbMetadata(Address(unix=server))
    try:
        rows = {key: decode_record(stored) async for key, stored in metadata.scan()}
        pack = next(key for key, record in rows.items() if isinstance(record, PackRecord))
        content = next(record for record in rows.values() if isinstance(record, ObjectRecord))
        note, deleted = await metadata.reserve(
            [encode_record(NoteRecord("", os.urandom(8).hex())) for _ in range(2)])
        await metadata.commit([(deleted, encode_record(content))])
        await metadata.delete([deleted])
        return {"pack": pack, "note": note, "deleted": deleted, "never given": note + 10_000,
                "last": 2**32 - 1}
    finally:
        await metadata.close()


def told(connection: http.client.HTTPConnection, method: str, path: str,
         headers: dict[str, str]) -> Told:
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    kept = tuple((name, value) for name, value in response.getheaders()
                 if name.lower() not in ITS_OWN_BUSINESS)
    name = response.getheader("X-Request-Id", "none")
    # Each request has another, of one length.
    assert re.fullmatch("[0-9a-f]{16}", name)
    return Told(response.status, kept, response.read().replace(name.encode(), b"ID"))


@pytest.mark.parametrize("method, path, headers", QUESTIONS)
def test_a_wrong_hash_is_answered_as_a_wrong_id(
    up: Up, kinds: Kinds, method: str, path: str, headers: dict[str, str]
) -> None:
    def of_kind(kind: str) -> list[Told]:
        connection = http.client.HTTPConnection("127.0.0.1", up.port, timeout=60)
        links = [path.format(f"{content}{kinds.ids[kind]:08x}")
                 for content in (WRONG, "0" * 48, f"{int(kinds.content, 16) ^ 1:048x}")]
        # Twice: at first, and when it may be remembered.
        found = [told(connection, method, link, headers) for link in links * 2]
        connection.close()
        return found

    # A miss takes its time, so all at once.
    with ThreadPoolExecutor(len(kinds.ids)) as pool:
        answers = dict(zip(kinds.ids, map(set, pool.map(of_kind, kinds.ids)), strict=True))
    assert len(set().union(*answers.values())) == 1, answers
    answer, = answers["note"]
    assert answer.status == (404 if method in ("GET", "HEAD") else 405)


def test_jobs_that_nobody_knows_are_answered_alike(up: Up) -> None:
    asked = [os.urandom(16).hex() for _ in range(20)]
    asked += ["0" * 32, "f" * 31, "F" * 32, "g" * 32, "x", "0" * 300]
    connection = http.client.HTTPConnection("127.0.0.1", up.port, timeout=60)
    answers = {told(connection, "GET", f"/api/status/{job}{more}", {})
               for job in asked for more in ("", "?wait=0.01")}
    connection.close()
    answer, = answers
    assert answer.status == 404


def test_ids_of_jobs_are_random(up: Up) -> None:
    """No bit of 128 is the same in all of 50; by chance that is one in 2^42."""
    jobs = [int(up.upload(b"x").job, 16) for _ in range(50)]
    everywhere, anywhere = 2**128 - 1, 0
    for job in jobs:
        everywhere &= job
        anywhere |= job
    assert (everywhere, anywhere) == (0, 2**128 - 1)
    for job in jobs:
        up.stored(f"{job:032x}")
