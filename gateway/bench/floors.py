"""What the machine itself can do: the least work for the same bytes. As a program, over HTTP."""

from __future__ import annotations

import argparse
import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from zerostor.core.limits import MIB


def write_and_sync(folder: Path, body: memoryview) -> float:
    """Seconds to write `body` to a new file in 1 MiB steps and fsync it, as dd conv=fsync does."""
    path = folder / "floor"
    began = time.perf_counter()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        for at in range(0, len(body), MIB):
            os.write(descriptor, body[at : at + MIB])
        os.fsync(descriptor)
        return time.perf_counter() - began
    finally:
        os.close(descriptor)
        path.unlink()


def copy_rate(size: int, seconds: float) -> float:
    """Bytes per second of memcpy between two reused buffers of `size` bytes."""
    source, target = bytearray(os.urandom(size)), bytearray(size)
    to = (ctypes.c_char * size).from_buffer(target)
    come = (ctypes.c_char * size).from_buffer(source)
    return rate(size, seconds, lambda: ctypes.memmove(to, come, size))


def rate(size: int, seconds: float, work: Callable[[], object]) -> float:
    """Bytes per second when `work` handles `size` bytes a call; the best of five spells."""
    best = 0.0
    for _ in range(5):
        calls, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds / 5:
            work()
            calls += 1
        best = max(best, calls * size / spent)
    return best


async def _sink(request: web.Request) -> web.Response:
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
    return web.json_response({"size": size})


def _source(largest: int) -> Callable[[web.Request], object]:
    memory = memoryview(os.urandom(MIB))

    async def source(request: web.Request) -> web.StreamResponse:
        size = int(request.match_info["size"])
        assert size <= largest
        if size <= MIB:
            return web.Response(body=bytes(memory[:size]))
        response = web.StreamResponse(headers={"Content-Length": str(size)})
        await response.prepare(request)
        for at in range(0, size, MIB):
            await response.write(memory[: min(MIB, size - at)])
        await response.write_eof()
        return response

    return source


def main() -> None:
    """A sink and a source: as little as an aiohttp server can do with a body."""
    import uvloop

    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    port = parser.parse_args().port
    app = web.Application()
    app.router.add_post("/sink", _sink)
    app.router.add_get("/source/{size}", _source(1 << 34))  # type: ignore[arg-type]
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    main()
