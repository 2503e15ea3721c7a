"""A gateway whose calls to the disk of the spool fail: no 202 without them, and it goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.running_up import Up, content_of, digest, has_strace, strace

pytestmark = pytest.mark.skipif(not has_strace(), reason="needs strace (apt-get install strace)")
SIZES = {"small": 5000, "streamed": 5_000_000}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with Up(tmp_path_factory.mktemp("syscalls") / "zerostor") as running:
        yield running


def idle(up: Up) -> None:
    up.until(lambda: up.spool_left() == [], "the spool is empty")


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("error, status, code", [
    ("EIO", 503, "backend"), ("ENOSPC", 507, "spool-full")])
@pytest.mark.parametrize("call", [
    "fdatasync", "fsync", "rename", "writev:when=1", "ftruncate:when=1"])
def test_a_call_that_fails_is_no_202_and_leaves_nothing(
        up: Up, call: str, error: str, status: int, code: str, size: int) -> None:
    up.stored(up.upload(content_of(size)).job)
    idle(up)
    objects = len(up.records())
    name, _, when = call.partition(":")
    rule = f"inject={name}:error={error}" + (f":{when}" if when else "")
    with strace(up.pid("gateway"), "-e", f"trace={name}", "-e", rule):
        answer = up.upload(content_of(size, 1), ext="bin")
    assert (answer.status, answer.json.get("type")) == (status, f"urn:zerostor:{code}"), answer
    assert up.spool_left() == []
    body = content_of(size, 2)
    assert up.get(up.stored(up.upload(body).job)).body == body
    idle(up)
    assert len(up.records()) == objects + 1


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_a_wait_that_ends_promises_nothing_that_is_not_on_disk(up: Up, call: str) -> None:
    with up.stopped("worker"), strace(up.pid("gateway"), "-e", f"trace={call}",
                                      "-e", f"inject={call}:error=EIO"):
        answer = up.upload(content_of(70_000, 5), wait=0.3)
    assert answer.status == 503, answer
    idle(up)
    body = content_of(70_000, 6)
    with up.stopped("worker"):
        job = up.upload(body, wait=0.3).job
    assert up.get(up.stored(job)).body == body


@pytest.mark.parametrize("when", ["", ":when=1", ":when=2", ":when=2+"])
def test_what_was_in_a_file_before_is_never_taken_for_the_upload(up: Up, when: str) -> None:
    """A worker follows it, and how far it has come cannot always be told."""
    size = 20_000_000
    up.store(content_of(size, 7))
    body = content_of(size, 8)
    with strace(up.pid("gateway"), "-e", "trace=fsetxattr",
                "-e", f"inject=fsetxattr:error=ENOSPC{when}"):
        link = up.store(body)
    assert digest(up.get(link).body) == digest(body)
    idle(up)
