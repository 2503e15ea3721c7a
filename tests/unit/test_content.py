"""What a browser may do with what strangers stored."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.content import Content, host_of
from zerostor.core.errors import RequestError, SetupError
from zerostor.core.gateway_settings import check_gateway
from zerostor.core.link import Hash, extension_of, format_link, parse_extension
from zerostor.core.media_types import _TYPES, is_inert, media_type
from zerostor.core.settings import GatewaySettings

HASH = Hash(bytes(range(24)), 7)
SHOWN = {"jpg", "png", "gif", "webp", "avif", "mp4", "webm", "mp3", "ogg", "txt", "log", "py",
         "ico"}
SAVED = {"html", "htm", "svg", "xml", "pdf", "js", "mjs", "css", "json", "wasm", "csv", "md", "ics",
         "zip", "", "exe", "xhtml", "xht", "shtml", "mht", "swf", "jpg.html", "svgz"}


@pytest.mark.parametrize("ext", sorted(SHOWN))
def test_what_is_only_shown(ext: str) -> None:
    assert is_inert(ext)
    assert Content().disposition(f"x.{ext}", ext) is None


@pytest.mark.parametrize("ext", sorted(SAVED))
def test_what_may_act_is_saved_unless_it_is_allowed(ext: str) -> None:
    assert not is_inert(ext)
    name = format_link(HASH, ext)
    assert Content().disposition(name, ext) == f'attachment; filename="{name}"'
    assert Content(inline=True).disposition(name, ext) is None


def test_of_all_types_nothing_with_markup_or_script_is_shown() -> None:
    shown = {media for media, exts in _TYPES.items() if is_inert(exts.split()[0])}
    assert not [media for media in shown if re.search(r"xml|html|script|pdf|css|json", media)]
    assert all(is_inert(ext) == (media in shown)
               for media, exts in _TYPES.items() for ext in exts.split())


@given(st.text())
def test_no_name_of_a_file_gets_out_of_its_header(text: str) -> None:
    exts = [extension_of(text), extension_of(f"a.{text}")]
    with contextlib.suppress(RequestError):
        exts.append(parse_extension(text))
    for ext in exts:
        header = Content().disposition(format_link(HASH, ext), ext)
        assert header is None or re.fullmatch(r'attachment; filename="[0-9a-z.]+"', header)
        assert re.fullmatch(r"[a-z0-9/.+; =-]+", media_type(ext))


@pytest.mark.parametrize(("text", "host"), [
    ("http://files.example.org", "files.example.org"),
    ("//FILES.example.org.:8080", "files.example.org"), ("//[::1]:80", "::1"),
    ("//[::1", ""), ("//", ""), ("//user@files", "files")])
def test_one_spelling_of_a_host(text: str, host: str) -> None:
    assert host_of(text) == host


@pytest.mark.parametrize("url", [
    "files.example.org", "https://files.example.org/path", "https://files.example.org/",
    "ftp://files.example.org", "https://", "https://a b", "https://x;img-src *",
    "https://x\r\nA: b", "https://GATE.example.org:8443"])
def test_settings_that_would_protect_nothing_are_refused(url: str) -> None:
    with pytest.raises(SetupError, match="content_url"):
        check_gateway(GatewaySettings(content_url=url, public_url="https://gate.example.org/z"))


def test_settings_of_two_hosts() -> None:
    check_gateway(GatewaySettings(content_url="https://files.example.org:8443",
                                  public_url="https://gate.example.org/z"))
