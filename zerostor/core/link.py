"""The public link: `HASH.ext`, where HASH is 48 hex of BLAKE3-192 and 8 hex of the metadata id.

    hex 0..47    content hash, 24 bytes
    hex 48..55   metadata id, u32 as a big-endian number

The content hash of a private object is keyed (see checksum.py); its link looks like any other.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from zerostor.core.errors import BadExtension, BadLink
from zerostor.core.limits import CONTENT_HASH_SIZE, EXTENSION_MAX, METADATA_ID_MAX

_EXTENSION = re.compile(r"[a-z0-9]+(?:\.[a-z0-9]+)*", re.IGNORECASE | re.ASCII)
_NAME = re.compile(r"\.*[^.].*?\.(tar\.[a-z0-9]{1,5})|\.*[^.].*\.([a-z0-9]+)",
                   re.IGNORECASE | re.ASCII | re.DOTALL)
"""A file name with an extension; dots in front, as of hidden files, do not begin one."""
_HASH = re.compile(r"[0-9a-fA-F]{56}")
PRIVATE_HEADER = "Zerostor-Private"
"""Comes with the bytes of a private object: who fetched them cannot hold them against the link."""
_LINK_MAX = 56 + 1 + EXTENSION_MAX


class Hash(NamedTuple):
    """The public id of an object. content: 24 bytes; metadata_id: 0 to 2**32 - 1."""

    content: bytes
    metadata_id: int

    def __str__(self) -> str:
        """56 hex digits, lower case."""
        return f"{self.content.hex()}{self.metadata_id:08x}"


def make_hash(content: bytes, metadata_id: int) -> Hash:
    """A Hash from its parts, which must have the right size (a bug otherwise)."""
    assert len(content) == CONTENT_HASH_SIZE, len(content)
    assert 0 <= metadata_id <= METADATA_ID_MAX, metadata_id
    return Hash(content, metadata_id)


def parse_hash(text: str) -> Hash:
    """Exactly 56 hex digits, either case. Raises BadLink."""
    if _HASH.fullmatch(text) is None:
        raise BadLink("a hash is 56 hex digits")
    return Hash(bytes.fromhex(text[:48]), int(text[48:], 16))


def parse_link(text: str) -> tuple[Hash, str]:
    """`HASH` or `HASH.ext`, returned as (hash, ext or ""). Raises BadLink, BadExtension."""
    if len(text) > _LINK_MAX:
        raise BadLink(f"a link is at most {_LINK_MAX} characters")
    digits, dot, extension = text.partition(".")
    parsed = parse_hash(digits)
    return parsed, parse_extension(extension) if dot else ""


def format_link(parsed: Hash, extension: str) -> str:
    """`HASH.ext`, or `HASH` when there is no extension."""
    return f"{parsed}.{extension}" if extension else str(parsed)


def parse_extension(text: str) -> str:
    """An extension as given by a client, lower-cased. Raises BadExtension."""
    if len(text) > EXTENSION_MAX or _EXTENSION.fullmatch(text) is None:
        raise BadExtension(
            f"an extension is 1 to {EXTENSION_MAX} letters and digits, dots inside, as in tar.gz"
        )
    return text.lower()


def extension_of(file_name: str) -> str:
    """The usable extension of a file name, "" when there is none; any text is allowed."""
    found = _NAME.fullmatch(re.split(r"[/\\]", file_name)[-1])
    extension = (found[1] or found[2]).lower() if found else ""
    return extension if len(extension) <= EXTENSION_MAX else ""
