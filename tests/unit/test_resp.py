"""RESP parser and writer: the vectors, the limits, and what a hostile peer sends."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from zerostor.core import resp
from zerostor.core.resp import Reply, ReplyError, ReplyParser, RequestParser, RespError

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "resp.json").read_text())


def as_json(reply: Reply) -> Any:
    match reply:
        case bytes():
            return {"bulk": reply.decode("latin-1")}
        case str():
            return {"simple": reply}
        case ReplyError():
            return {"error": str(reply)}
        case list():
            return [as_json(item) for item in reply]
    return reply


@pytest.mark.parametrize("case", VECTORS["requests"], ids=lambda case: repr(case["bytes"]))
@pytest.mark.parametrize("step", [1, 2, 10**6])
def test_request_vectors(case: dict[str, Any], step: int) -> None:
    raw = case["bytes"].encode("latin-1")
    parser = RequestParser()
    got = []
    for start in range(0, len(raw), step):
        got += parser.feed(raw[start : start + step])
    assert got == [[item.encode("latin-1") for item in one] for one in case["requests"]]
    assert parser.error == case["error"]


@pytest.mark.parametrize("case", VECTORS["replies"], ids=lambda case: repr(case["bytes"]))
@pytest.mark.parametrize("step", [1, 3, 10**6])
def test_reply_vectors(case: dict[str, Any], step: int) -> None:
    raw = case["bytes"].encode("latin-1") * 3
    parser = ReplyParser()
    got: list[Reply] = []
    for start in range(0, len(raw), step):
        got += parser.feed(raw[start : start + step])
    assert [as_json(reply) for reply in got] == [case["reply"]] * 3


@pytest.mark.parametrize("raw", [*VECTORS["not_replies"], "+" + "x" * 2000])
def test_what_is_no_reply(raw: str) -> None:
    with pytest.raises(RespError):
        ReplyParser().feed(raw.encode("latin-1"))


def test_writer_and_parser_agree() -> None:
    arguments = [b"SET", b"", bytes(range(256)) * 10, b"\r\n$3\r\n"]
    assert RequestParser().feed(resp.request(arguments) * 2) == [arguments] * 2
    raw = resp.array([resp.bulk(b"a"), resp.integer(-3), resp.NIL, resp.array([]), resp.OK])
    assert ReplyParser().feed(raw) == [[b"a", -3, None, [], "OK"]]


def test_an_error_text_cannot_smuggle_a_reply() -> None:
    (reply,) = ReplyParser().feed(resp.error("broken\r\n+OK"))
    assert str(reply) == "broken +OK"


def test_largest_value_is_inclusive() -> None:
    value = bytes(resp.BULK_MAX)
    parser = RequestParser()
    assert parser.feed(resp.request([b"SET", b"", value])) == [[b"SET", b"", value]]
    assert parser.error is None
    assert parser.feed(b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$%d\r\n" % (resp.BULK_MAX + 1)) == []
    assert parser.error == "Payload too big"


def test_arguments_together_are_bounded() -> None:
    parser = RequestParser()
    parser.feed(b"*1024\r\n")
    for _ in range(4):
        parser.feed(b"$4194304\r\n" + bytes(4194304) + b"\r\n")
    assert parser.error == "Payload too big"


def test_most_arguments() -> None:
    arguments = [b"MGET", *([b"12345678"] * 1023)]
    parser = RequestParser()
    assert parser.feed(resp.request(arguments)) == [arguments]
    assert parser.feed(resp.request([*arguments, b"x"])) == []
    assert parser.error == "Too many arguments"


def test_nothing_is_read_after_an_error() -> None:
    parser = RequestParser()
    parser.feed(b"*0\r\n")
    assert parser.feed(resp.request([b"PING"])) == []
    assert parser.error == "Missing arguments"


def test_a_nested_reply_is_bounded_in_all() -> None:
    parser = ReplyParser()
    parser.feed(b"*1000000\r\n")
    with pytest.raises(RespError, match="too large"):
        for _ in range(40):
            parser.feed(resp.bulk(bytes(2**20)))


@pytest.mark.parametrize("item", [b"*0\r\n", b"+\r\n", b"$-1\r\n", b"*1\r\n+\r\n"])
def test_a_reply_of_many_empty_items_is_bounded(item: bytes) -> None:
    """They take next to nothing on the wire, and much in memory."""
    parser = ReplyParser()
    parser.feed(b"*30000000\r\n")
    with pytest.raises(RespError, match="too large"):
        for _ in range(2 * resp.REPLY_MAX // resp.ITEM_COST // 10_000):
            parser.feed(item * 10_000)


def test_a_value_that_comes_in_crumbs_costs_about_its_size() -> None:
    size = 2**18
    raw = resp.request([b"SET", b"", bytes(size)])
    parser, requests = RequestParser(), list[list[bytes]]()
    tracemalloc.start()
    for at in range(0, len(raw) - 8, 8):
        # A copy, as from a socket: the parser may not live on slices that somebody else keeps.
        requests += parser.feed(bytes(bytearray(raw[at : at + 8])))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert parser.unfinished > size * 0.99
    assert peak < 2 * size
    assert requests + parser.feed(raw[(len(raw) - 8 + 7) // 8 * 8 :])


def test_a_finished_request_is_not_kept() -> None:
    parser = RequestParser()
    tracemalloc.start()
    try:
        for _ in range(2):
            got = parser.feed(b"*2\r\n$3\r\nSET\r\n$1000000\r\n" + bytes(400_000))
            got += parser.feed(bytes(600_000) + b"\r\n")
            assert len(got) == 1
        del got
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100_000
