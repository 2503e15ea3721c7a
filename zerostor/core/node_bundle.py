"""Byte layout of an application for nodes, as it is sent over the link.

    "EDNA" | version u8 = 1 | files u8 | for each: name length u8 | name | size u32
    then the contents, one behind the other. Big-endian.

firmware/app/update.py unpacks it. What signs it is node_wire.app_signature.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

MAGIC = b"EDNA\x01"
BUNDLE_MAX = 65_536
FILES_MAX = 32
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.]{0,31}")


def pack(files: Mapping[str, bytes]) -> bytes:
    """A bundle of the files of the folder `app`, by name. ValueError if a node would refuse it."""
    if not 0 < len(files) <= FILES_MAX:
        raise ValueError(f"a bundle has 1 to {FILES_MAX} files, not {len(files)}")
    for name in files:
        if not _NAME.fullmatch(name):
            raise ValueError(f"no name for a file of a node: {name!r}")
    table = b"".join(
        bytes((len(name),)) + name.encode() + struct.pack(">I", len(content))
        for name, content in sorted(files.items())
    )
    contents = b"".join(content for _, content in sorted(files.items()))
    bundle = MAGIC + bytes((len(files),)) + table + contents
    if len(bundle) > BUNDLE_MAX:
        raise ValueError(f"a bundle has at most {BUNDLE_MAX} bytes, not {len(bundle)}")
    return bundle
