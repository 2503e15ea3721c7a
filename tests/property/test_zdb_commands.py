"""Any command with any arguments gets one well-formed reply, and the server goes on."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from zerostor.core.resp import Reply, ReplyError, ReplyParser, request
from zerostor.zdb.commands import TABLE
from zerostor.zdb.server import ZdbServer
from zerostor.zdb.server_settings import ServerMode, ServerSettings

NAMES = sorted(set(TABLE) - {b"WAIT", b"NSDEL"})
ARGUMENT = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([
        b"", bytes(8), b"\1" + bytes(7), b"a", b"k" * 255, b"k" * 256, b"default", b"one", b"-1",
        b"0", b"1", b"28", b"99999999999999999999", b"SECURE", b"CHALLENGE", b"RAW", b"DIRTY",
        b"password", b"maxsize", b"public", b"worm", b"mode", b"seq", b"user", b"*", bytes(17),
        b"../x", b"\xff" * 8, b"\r\n+OK\r\n", "\u0661".encode(), b"x" * 5000,
    ]),
)
REQUESTS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.lists(ARGUMENT, max_size=5)).map(
        lambda pair: [pair[0], *pair[1]]
    ),
    min_size=1, max_size=30,
)


async def replies(requests: list[list[bytes]], mode: ServerMode) -> list[Reply]:
    """What a fresh server answers to all of it in one go, and to a PING on another connection."""
    with tempfile.TemporaryDirectory() as folder:
        unix = Path(folder) / "s"
        settings = ServerSettings(Path(folder) / "log", unix=unix, sync=False, mode=mode)
        server = ZdbServer(settings)
        await server.start()
        broken: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: broken.append(context.get("exception") or context)
        )
        reader, writer = await asyncio.open_unix_connection(str(unix))
        writer.write(b"".join(map(request, requests)))
        parser, found = ReplyParser(), list[Reply]()
        while len(found) < len(requests):
            chunk = await asyncio.wait_for(reader.read(2**16), 20)
            assert chunk or broken, f"closed after {len(found)} replies"
            assert not broken, broken
            found += parser.feed(chunk)
        writer.write(request([b"PING"]))
        assert await asyncio.wait_for(reader.readline(), 20) == b"+PONG\r\n"
        writer.close()
        await server.close()
        return found


@settings(max_examples=60, deadline=None)
@given(REQUESTS, st.sampled_from(list(ServerMode)))
def test_every_request_gets_one_reply(requests: list[list[bytes]], mode: ServerMode) -> None:
    logging.disable(logging.ERROR)
    try:
        found = asyncio.run(replies(requests, mode))
    finally:
        logging.disable(logging.NOTSET)  # or tests that come later see no log
    assert len(found) == len(requests)
    for words, reply in zip(requests, found, strict=True):
        if words[0] == b"PING":
            assert reply == "PONG"
        if words[0] in (b"KSCAN", b"STOP"):
            assert isinstance(reply, ReplyError)
