"""Memory of all processes: it does not grow with the number of objects, nor with their size."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.fakes.running_up import Up, content_of
from zerostor.core.limits import KIB, MIB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="resets the peaks in /proc")
NOISE = content_of(90 * MIB)


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    with Up(tmp_path_factory.mktemp("memory") / "zerostor") as running:
        yield running


def processes(up: Up) -> dict[str, psutil.Process]:
    assert up.process is not None
    return up.children() | {"up": psutil.Process(up.process.pid)}


def forget_peaks(up: Up) -> None:
    """From now on `peaks` tells the most since now."""
    for process in processes(up).values():
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peaks(up: Up) -> dict[str, int]:
    """The most memory that each process had in RAM at a time, in MiB."""
    found = {}
    for name, process in processes(up).items():
        status = Path(f"/proc/{process.pid}/status").read_text()
        found[name] = int(status.split("VmHWM:")[1].split()[0]) // KIB
    return found


def upload_and_download(up: Up, size: int) -> None:
    """With and without wait, as chunks, whole, and from the middle on."""
    body = memoryview(NOISE)[:size]
    for sent, wait in ((body, 60), (body, 0), (iter([body[: 5 * MIB], body[5 * MIB :]]), 60)):
        answer = up.upload(sent, ext="bin", wait=wait)
        link = answer.link if wait else up.stored(answer.job)
        assert up.get(link).body == body
        assert up.get(link, {"Range": f"bytes={size // 2}-"}).body == body[size // 2 :]


def test_memory_does_not_depend_on_the_size_of_an_object(up):
    """81 MiB more through the same buffers, which are kept for a while once they were needed.

    On a busy machine a store may be too slow once, and 40 MiB of cells are taken to read around it.
    """
    upload_and_download(up, 90 * MIB)
    found = []
    for size in (9 * MIB, 90 * MIB):
        forget_peaks(up)
        upload_and_download(up, size)
        found.append(peaks(up))
    print(found)
    small, large = found
    assert {name: peak for name, peak in large.items() if peak > small[name] + 48} == {}, small


def test_a_thousand_uploads_leave_no_memory_behind(up):
    """Eight at a time, small ones and some of 1 MiB, with and without wait, and read again."""
    def one(number: int) -> None:
        size = MIB if number % 20 < 2 else 10 * KIB
        body = b"%016d" % number + NOISE[number : number + size - 16]
        answer = up.upload(body, ext="bin", wait=60 if number % 2 else 0)
        if answer.status == 200:
            assert up.get(answer.link).body == body

    found = []
    with ThreadPoolExecutor(8) as pool:
        for numbers in (range(500), range(500, 1000), range(1000, 1500)):
            forget_peaks(up)
            list(pool.map(one, numbers))
            up.until(up.idle, "all is stored")
            found.append(peaks(up))
    print(found)
    warm, _, last = found
    assert {name: peak for name, peak in last.items() if peak > warm[name] + 12} == {}, warm
