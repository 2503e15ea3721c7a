"""Bytes cut anywhere mean what they mean whole, good or bad; and nothing is made up."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from zerostor.core import resp
from zerostor.core.resp import ReplyError, ReplyParser, RequestParser, RespError

REQUESTS = st.lists(st.lists(st.binary(max_size=80), min_size=1, max_size=6), max_size=6)
CUTS = st.lists(st.integers(0, 600), max_size=12)
HOSTILE = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([
            b"*1\r\n$4\r\nPING\r\n", b"*2\r\n", b"$3\r\nabc\r\n", b"$-1\r\n", b"*0\r\n", b"*-1\r\n",
            b"$8388609\r\n", b"*1025\r\n", b"\r\n", b"+OK\r\n", b":12\r\n", b"-no\r\n", b"*", b"$",
            b"*1\n$1\nxyz", b"9" * 40, b"*3\r\n*1\r\n*0\r\n", b"+" + b"x" * 1100 + b"\r\n",
        ]),
    ),
    max_size=10,
).map(b"".join)


def pieces(raw: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    return [raw[start:end] for start, end in pairwise(at)]


def read_requests(chunks: list[bytes]) -> tuple[list[list[bytes]], str | None]:
    parser, got = RequestParser(), list[list[bytes]]()
    for chunk in chunks:
        got += parser.feed(chunk)
    return got, parser.error


def read_replies(chunks: list[bytes]) -> list[str]:
    """The replies in a form that can be compared, then the error if there is one."""
    parser, got = ReplyParser(), list[str]()
    try:
        for chunk in chunks:
            got += [repr(reply) for reply in parser.feed(chunk)]
    except RespError:
        pass
    return got


def breaks(chunks: list[bytes]) -> bool:
    parser = ReplyParser()
    try:
        for chunk in chunks:
            parser.feed(chunk)
    except RespError:
        return True
    return False


@settings(max_examples=400, deadline=None)
@given(REQUESTS, CUTS)
def test_requests_come_back_however_they_are_cut(
    requests: list[list[bytes]], cuts: list[int]
) -> None:
    raw = b"".join(map(resp.request, requests))
    assert read_requests(pieces(raw, cuts)) == (requests, None)


@settings(max_examples=400, deadline=None)
@given(REQUESTS, HOSTILE, CUTS)
def test_hostile_bytes_mean_the_same_however_they_are_cut(
    requests: list[list[bytes]], hostile: bytes, cuts: list[int]
) -> None:
    raw = b"".join(map(resp.request, requests)) + hostile
    whole = read_requests([raw])
    assert read_requests(pieces(raw, cuts)) == whole
    assert read_requests([bytes([byte]) for byte in raw]) == whole
    assert whole[0][: len(requests)] == requests
    for arguments in whole[0]:
        assert 1 <= len(arguments) <= resp.ARGUMENTS_MAX


REPLIES = st.recursive(
    st.one_of(st.none(), st.integers(-(2**63), 2**63), st.binary(max_size=60),
              st.text("abc xyz", max_size=20), st.text("abc xyz", max_size=20).map(ReplyError)),
    lambda inner: st.lists(inner, max_size=4), max_leaves=8,
)


def depth(reply: object) -> int:
    return 1 + max(map(depth, reply), default=0) if isinstance(reply, list) else 0


def encoded(reply: object) -> bytes:
    match reply:
        case None:
            return resp.NIL
        case int():
            return resp.integer(reply)
        case bytes():
            return resp.bulk(reply)
        case str():
            return b"+%b\r\n" % reply.encode()
        case ReplyError():
            return b"-%b\r\n" % str(reply).encode()
        case list():
            return resp.array([encoded(item) for item in reply])
    raise AssertionError


@settings(max_examples=400, deadline=None)
@given(st.lists(REPLIES.filter(lambda reply: depth(reply) <= resp.DEPTH_MAX), max_size=5), CUTS)
def test_replies_come_back_however_they_are_cut(replies: list[object], cuts: list[int]) -> None:
    raw = b"".join(map(encoded, replies))
    assert read_replies(pieces(raw, cuts)) == [repr(reply) for reply in replies]


@settings(max_examples=400, deadline=None)
@given(HOSTILE, CUTS)
def test_hostile_replies_mean_the_same_however_they_are_cut(raw: bytes, cuts: list[int]) -> None:
    one_by_one = [bytes([byte]) for byte in raw]
    assert breaks(pieces(raw, cuts)) == breaks([raw]) == breaks(one_by_one)
    # A parser fed whole raises before it hands over what came before the fault.
    assert read_replies(one_by_one)[: len(read_replies([raw]))] == read_replies([raw])
