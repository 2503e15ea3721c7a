"""Content types come from a fixed list: the same on every host."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from zerostor.core import media_types
from zerostor.core.link import parse_extension
from zerostor.core.media_types import DEFAULT, media_type


@pytest.mark.parametrize(("extension", "expected"), [
    ("jpg", "image/jpeg"), ("html", "text/html; charset=utf-8"), ("tar.gz", "application/gzip"),
    ("min.js", "text/javascript; charset=utf-8"), ("", DEFAULT), ("exe", DEFAULT),
    ("jpg.exe", DEFAULT), ("png", "image/png"),
])
def test_by_extension(extension: str, expected: str) -> None:
    assert media_type(extension) == expected


def test_each_extension_is_listed_once_and_could_be_in_a_link() -> None:
    listed = [ext for exts in media_types._TYPES.values() for ext in exts.split()]
    assert [ext for ext, count in Counter(listed).items() if count > 1] == []
    assert [ext for ext in listed if parse_extension(ext) != ext] == []


def test_the_types_are_header_values() -> None:
    for media in media_types._TYPES:
        assert re.fullmatch(r"[a-z]+/[a-z0-9.+-]+(; charset=utf-8)?", media), media
        assert media.startswith("text/") == media.endswith("charset=utf-8"), media
