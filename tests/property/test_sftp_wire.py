"""SFTP packets: cut anywhere they are the same, and no bytes bring the reader down."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sshgw.sftp_wire import PACKET_MAX, Request, Splitter
from zerostor.core.errors import BadRequest
from zerostor.core.homes import within

BODIES = st.lists(st.binary(min_size=1, max_size=300), max_size=20)


@given(BODIES, st.lists(st.integers(0, 5000), max_size=30))
def test_cut_anywhere_packets_are_the_same(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(struct.pack(">I", len(body)) + body for body in bodies)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    splitter, found = Splitter(), []
    for start, end in itertools.pairwise(edges):
        splitter.feed(stream[start:end])
        while (body := splitter.next()) is not None:
            found.append(bytes(body))
    assert found == bodies


@given(st.binary(max_size=200))
def test_any_bytes_are_fields_or_refused(body: bytes) -> None:
    for read in (Request.u32, Request.u64, Request.string, Request.attributes):
        request = Request(body)
        try:
            while True:
                read(request)
        except BadRequest:
            pass


@pytest.mark.parametrize("size", [0, PACKET_MAX + 1, 2**32 - 1])
def test_a_length_that_no_packet_has_is_refused(size: int) -> None:
    splitter = Splitter()
    splitter.feed(struct.pack(">I", size) + b"x")
    with pytest.raises(BadRequest):
        splitter.next()


@given(st.lists(st.sampled_from([b"..", b".", b"", b"a", b"b c", b"\xff", b"..."])),
       st.booleans())
def test_no_path_leads_above_the_home(parts: list[bytes], absolute: bool) -> None:
    path = within((b"/" if absolute else b"") + b"/".join(parts))
    assert path.startswith(b"/")
    assert not {b"..", b"."} & set(path.split(b"/"))
    assert within(path) == path
