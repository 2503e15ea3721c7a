"""Links: what a hash is, and which extensions people may hang on it."""

from __future__ import annotations

import time

import pytest

from zerostor.core.errors import BadExtension, BadLink
from zerostor.core.limits import EXTENSION_MAX, METADATA_ID_MAX
from zerostor.core.link import (
    extension_of,
    format_link,
    make_hash,
    parse_extension,
    parse_hash,
    parse_link,
)

CONTENT = bytes(range(24))
TEXT = "000102030405060708090a0b0c0d0e0f1011121314151617" + "0000002a"


def test_the_id_is_a_big_endian_number_behind_the_content_hash() -> None:
    assert str(make_hash(CONTENT, 42)) == TEXT
    assert parse_hash(TEXT) == (CONTENT, 42)
    assert str(make_hash(CONTENT, METADATA_ID_MAX))[48:] == "ffffffff"


def test_either_case_is_read_and_lower_case_is_written() -> None:
    parsed, extension = parse_link(f"{TEXT.upper()}.JPG")
    assert format_link(parsed, extension) == f"{TEXT}.jpg"


def test_a_link_may_have_no_extension() -> None:
    parsed, extension = parse_link(TEXT)
    assert (format_link(parsed, extension), extension) == (TEXT, "")


@pytest.mark.parametrize("text", [
    "", "favicon.ico", TEXT[:-1], TEXT + "0", " " + TEXT, TEXT + "\n", "g" + TEXT[1:],
    "\u0660" + TEXT[1:], "../" + TEXT[3:], TEXT + "x" * 1000, "0x" + TEXT[2:], TEXT[:-1] + "_",
])
def test_what_is_no_hash_is_refused(text: str) -> None:
    with pytest.raises(BadLink):
        parse_link(text)


@pytest.mark.parametrize("extension", [
    "", ".", "..", ".jpg", "jpg.", "a..b", "a/b", "a\\b", "a b", "a\n", "a%2f", "ä", "\u017f",
    "\u212a", "\u0663", "a\0", "x" * (EXTENSION_MAX + 1), "tar.gz-",
])
def test_what_is_no_extension_is_refused(extension: str) -> None:
    with pytest.raises(BadExtension):
        parse_extension(extension)
    if len(extension) <= EXTENSION_MAX:
        with pytest.raises(BadExtension):
            parse_link(f"{TEXT}.{extension}")


@pytest.mark.parametrize("extension", ["jpg", "JPG", "7z", "tar.gz", "x" * EXTENSION_MAX, "1"])
def test_extensions(extension: str) -> None:
    assert parse_extension(extension) == extension.lower()
    assert parse_link(f"{TEXT}.{extension}") == (parse_hash(TEXT), extension.lower())


@pytest.mark.parametrize(("name", "extension"), [
    ("photo.jpg", "jpg"), ("PHOTO.JPG", "jpg"), ("a.b.c.txt", "txt"), ("dir.d/photo", ""),
    ("C:\\dir.d\\photo.png", "png"), ("backup.tar.gz", "tar.gz"), ("my.backup.TAR.XZ", "tar.xz"),
    ("x.tar.superlong", "superlong"), ("tar.gz", "gz"), (".bashrc", ""), (".photo.jpg", "jpg"),
    ("..jpg", ""), (".tar.gz", "gz"), ("", ""), (".", ""), ("..", ""), ("a.", ""), ("a. ", ""),
    ("no extension", ""), ("a.j pg", ""), ("a.jpg\n", ""), ("a.\u017f", ""), ("a.\u212a", ""),
    ("a.ä", ""), ("naïve.pdf", "pdf"), ("two\nlines.txt", "txt"), ("a." + "x" * 17, ""),
    ("\udcff.jpg", "jpg"), ("a.jpg/", ""),
])
def test_the_extension_of_a_file_name(name: str, extension: str) -> None:
    assert extension_of(name) == extension
    if extension:
        assert parse_extension(extension) == extension


@pytest.mark.parametrize("name", ["." * 20_000, ".a" * 10_000, "a" * 20_000, ".a" * 10_000 + "-",
                                  "." * 20_000 + "-", "a.tar." * 4_000])
def test_a_hostile_file_name_takes_no_longer_than_its_length(name: str) -> None:
    begun = time.thread_time()
    extension_of(name[: len(name) // 10])
    short = time.thread_time() - begun
    begun = time.thread_time()
    extension_of(name)
    # Ten times the length; quadratic would be a hundred times as long.
    assert time.thread_time() - begun < 50 * short + 0.05


def test_wrong_parts_of_a_hash_are_bugs() -> None:
    for content, metadata_id in ((CONTENT[:-1], 1), (CONTENT, -1), (CONTENT, METADATA_ID_MAX + 1)):
        with pytest.raises(AssertionError):
            make_hash(content, metadata_id)
