"""What hosts say to each other about spool entries: read back, and noise refused as such."""

from __future__ import annotations

import contextlib

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zerostor.core.cluster_token import ClusterKey
from zerostor.core.errors import BackendError, BadRequest, NotAllowed, ZerostorError
from zerostor.core.jobs import SpoolNote, Upload
from zerostor.core.spool_protocol import JOBS_MAX, Ask, Row, decode_ask, decode_rows, refusal

JOB = st.integers(0, 2**128 - 1).map("{:032x}".format)
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no failure."""
NOTES = st.builds(SpoolNote, st.none() | st.integers(0, 2**32 - 1), st.integers(0, 9),
                  st.text(max_size=20))
UPLOADS = st.builds(Upload, JOB, st.text(max_size=8), st.text(max_size=8), st.integers(0, 2**50),
                    st.integers(0, 2**50), st.binary(max_size=24),
                    st.just(b"") | st.binary(min_size=32, max_size=32))
ROWS = st.builds(Row, st.just(""), st.text(max_size=9), st.text(max_size=16),
                 st.none() | UPLOADS, st.none() | st.integers(0, 2**50), st.none() | NOTES,
                 st.none() | st.binary(max_size=50))
KEY = ClusterKey("a secret that all hosts share")
encode = msgspec.msgpack.encode


@CALM
@given(st.lists(st.tuples(JOB, NOTES), min_size=1, max_size=9, unique_by=lambda row: row[0]))
def test_a_question_is_read_back(rows: list[tuple[str, SpoolNote]]) -> None:
    jobs = [job for job, _ in rows]
    ask = Ask(jobs, jobs, [note for _, note in rows], jobs, 7, "s")
    assert decode_ask(encode(ask)) == ask


@CALM
@given(st.lists(ROWS, max_size=5))
def test_an_answer_is_read_back(rows: list[Row]) -> None:
    assert decode_rows(encode(rows), len(rows)) == rows


@CALM
@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.integers(-2**63, 2**64 - 1) | st.text() | st.binary(),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside)).map(encode))
def test_noise_is_refused(noise: bytes) -> None:
    with contextlib.suppress(BadRequest):
        ask = decode_ask(noise)
        assert 1 <= len(ask.jobs) <= JOBS_MAX
    with contextlib.suppress(BackendError):
        decode_rows(noise, 1)


@CALM
@given(st.text(), st.text(max_size=2000))
def test_every_row_of_a_failure_is_an_error_again(code: str, detail: str) -> None:
    error = Row(code or "x", detail).error()
    assert isinstance(error, ZerostorError)
    again = refusal(error).error()
    assert type(again) in (type(error), BackendError)


@CALM
@given(st.text() | st.from_regex(r"[0-9a-f]*\.[0-9a-f]*", fullmatch=True), st.binary(max_size=9))
def test_no_text_is_a_token(token: str, body: bytes) -> None:
    try:
        KEY.check(token, "POST", "/api/spool/open", body, now=1e9)
    except NotAllowed:
        assert not KEY.is_sealed(token, token, body)
    else:
        raise AssertionError(token)
