import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerostor.core.errors import SetupError
from zerostor.core.units import (
    Address,
    parse_address,
    parse_seconds,
    parse_size,
    seconds_text,
    size_text,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        (7, 7),
        ("100MB", 100_000_000),
        ("16MiB", 16 * 2**20),
        ("1.5 GB", 1_500_000_000),
        ("2 tib", 2 * 2**40),
        ("1kB", 1000),
        (" 12 b ", 12),
        ("0.5KiB", 512),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MB",
        "16M",
        "-1",
        "1e6",
        "1_000",
        "0.1B",
        "1.0001kB",
        "9EB",
        "9" * 19,
        "٣MB",
        "1 M B",
        "nan",
        "8388608 TiB",
        "1\n2",
    ],
)
def test_sizes_refused(text):
    with pytest.raises(SetupError):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", 300.0),
        ("30", 30.0),
        (2.5, 2.5),
        ("500ms", 0.5),
        ("2h", 7200.0),
        ("1 d", 86400.0),
        ("0", 0.0),
    ],
)
def test_times(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-5s", "5 weeks", "inf", "1:30"])
def test_times_refused(text):
    with pytest.raises(SetupError):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("[::1]:80", ("::1", 80)),
        (":9", ("", 9)),
        ("nas.local:0", ("nas.local", 0)),
    ],
)
def test_addresses(text, address):
    assert parse_address(text) == address
    assert parse_address(str(parse_address(text))) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        "host",
        "host:",
        "host:http",
        "host:65536",
        "host:-1",
        "::1:80",
        "a b:1",
        "host:٨٠",
        "http://host:80",
        "host:000080",
        "[host]:1",
    ],
)
def test_addresses_refused(text):
    with pytest.raises(SetupError):
        parse_address(text)


def test_reachable_address_of_a_server_that_listens_everywhere():
    assert str(parse_address("0.0.0.0:80").reachable) == "127.0.0.1:80"
    assert str(parse_address(":80").reachable) == "127.0.0.1:80"
    assert str(parse_address("[::]:80").reachable) == "[::1]:80"
    assert Address("10.0.0.1", 80).reachable == Address("10.0.0.1", 80)


@given(st.integers(0, 2**62))
def test_every_size_reads_back_from_its_bytes(size):
    assert parse_size(str(size)) == parse_size(f"{size}B") == size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_950, "1.0 MB"),
        (104_857_600, "104.9 MB"),
        (10**19, "10000.0 PB"),
    ],
)
def test_size_text(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.25 s"), (42.9, "42 s"), (185, "3 m 05 s"), (7800, "2 h 10 m"), (442_800, "5 d 3 h")],
)
def test_seconds_text(seconds, text):
    assert seconds_text(seconds) == text
