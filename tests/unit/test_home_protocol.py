"""What is asked about homes, from JSON."""

from __future__ import annotations

import json

import pytest

from zerostor.core.control_protocol import decode
from zerostor.core.home_protocol import MB, Enable


@pytest.mark.parametrize("size", [1, 1_001_000, 4_100_000, 33_300_000, 10**12 + 7, 10**18])
def test_a_limit_is_the_bytes_that_were_said(size: int) -> None:
    """4.1 times a million is 4,099,999.99... to a computer."""
    body = json.dumps({"username": "ann", "max_size_mb": size / MB}).encode()
    assert decode(Enable, body).limit == size
