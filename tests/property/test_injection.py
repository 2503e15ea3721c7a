"""Whatever text it is: it becomes no second command, no header, no address to be asked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.connection import Connection

from gateway.access import Access
from gateway.app import ROUTES
from gateway.openapi import OPERATIONS, document
from zerostor.core.errors import RequestError
from zerostor.core.homes import user_name
from zerostor.core.link import extension_of, format_link, parse_extension, parse_link
from zerostor.core.media_types import media_type
from zerostor.core.nodes import node_name
from zerostor.core.resp import RequestParser, bulk, error, request
from zerostor.core.telemetry import stream_name

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = st.lists(st.sampled_from(
    ["\r\n", "\r", "\n", "\0", "\x85", "\u2028", "\u010d", "\u010a", "*1\r\n$8\r\nFLUSHALL\r\n",
     "X-Injected: 1", "$-1", "..", "/", "%0d%0a", '"', "a", "shed-1", ".jpg", "0" * 56]),
    max_size=8).map("".join)
TEXT = HOSTILE | st.text(max_size=80)
BYTES = TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=200)
PLAIN = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
ASKED = re.compile(r"(?i)url|uri|host|endpoint|server|address|redirect|callback|proxy|^to_")


@given(st.lists(BYTES, min_size=1, max_size=20))
@example([b"SET", b"k\r\n*1\r\n$8\r\nFLUSHALL\r\n", b"\0\r\n"])
def test_a_request_is_its_arguments_and_nothing_else(arguments: list[bytes]) -> None:
    """As 0-db gets it, byte by byte: lengths say where an argument ends, not what is in it."""
    wire = request(arguments)
    assert wire == b"*%d\r\n" % len(arguments) + b"".join(map(bulk, arguments))
    assert RequestParser().feed(wire + request([b"PING"])) == [arguments, [b"PING"]]


@given(st.lists(BYTES, min_size=1, max_size=20))
def test_what_the_client_of_redis_sends_is_no_more_than_that(arguments: list[bytes]) -> None:
    wire = b"".join(Connection().pack_command("SET", *arguments))
    assert RequestParser().feed(wire) == [[b"SET", *arguments]]


@given(TEXT)
def test_an_error_is_one_line(text: str) -> None:
    clean = text.encode("utf-8", "replace").decode()
    assert error(clean).count(b"\n") == error(clean).count(b"\r") == 1


@pytest.mark.parametrize("check", [stream_name, node_name, user_name, parse_extension])
@given(text=TEXT)
@example(text="shed\n")
@example(text="shed\r\nX-Injected: 1")
def test_names_that_reach_a_wire_have_no_line_breaks(check: Callable[[str], str], text: str
                                                     ) -> None:
    try:
        name = check(text)
    except RequestError:
        return
    assert PLAIN.fullmatch(name), name
    assert not name.startswith("-")


@given(TEXT)
@example("0" * 56 + ".jpg\n")
@example("0" * 56 + "\r\n")
@example("a.tar.gz\r\nX-Injected: 1")
def test_no_link_or_extension_has_a_line_break(text: str) -> None:
    """Both are in headers: ETag, Content-Type, Location of nothing."""
    assert re.fullmatch(r"[a-z0-9.]*", extension_of(text), re.ASCII)
    assert re.fullmatch(r"[a-z]+/[a-z0-9.+-]+(; charset=utf-8)?", media_type(text), re.ASCII)
    try:
        parsed, extension = parse_link(text)
    except RequestError:
        return
    assert PLAIN.fullmatch(format_link(parsed, extension))


def test_no_route_takes_an_address() -> None:
    """Stores, servers and nodes that are asked stand in the settings, or are named on this host."""
    here = {(method.lower(), route.path) for route in ROUTES for method in route.methods
            if route.access is Access.HERE}
    assert here == {("post", "/api/stores"), ("post", "/api/stores/{name}/replace")}
    schemas = document()["components"]["schemas"]
    others = [one for one in OPERATIONS if (one.method, one.path) not in here]
    taken = {parameter.name for operation in others for parameter in operation.parameters}
    for operation in others:
        for media in (operation.body or {}).get("content", {}).values():
            reference = media.get("schema", {}).get("$ref", "").rpartition("/")[2]
            schema = schemas[reference] if reference else media.get("schema", {})
            taken |= set(schema.get("properties", ()))
    assert len(taken) > 20
    assert {name for name in taken if ASKED.search(name)} == set()


@pytest.mark.parametrize("path", sorted((ROOT / "gateway" / "routes").glob("*.py")),
                         ids=lambda path: path.stem)
def test_no_route_opens_a_connection(path: Path) -> None:
    """Only the links to processes of this host do, and those have the path of a socket."""
    assert not re.search(r"ClientSession|open_connection|create_connection|parse_address|urlopen",
                         path.read_text())
