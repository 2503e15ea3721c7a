"""What the command line knows of gateways, in a folder of this person's.

    known_gateways  a line each: PLACE KEY CERTIFICATE, as hex, "-" for what is not known
    credentials     JSON by PLACE: what opens it, until when. Nobody else may read the file

    PLACE           scheme://host:port and what the path begins with, spelled in one way

KEY is the gateway's Ed25519 key; CERTIFICATE the SHA-256 of one that no CA signed. Both are noted
when they are first seen, as ssh does, and another one is refused from then on.
"""

from __future__ import annotations

import ipaddress
import json
import re
import urllib.parse
from pathlib import Path
from typing import Any, NamedTuple

from zerostor.core.errors import RequestError, SetupError
from zerostor.whole_file import change_text, read_text

PORTS = {"http": 80, "https": 443}
_HEX = re.compile(r"[0-9a-f]{64}|-", re.ASCII)


class Address(NamedTuple):
    """Where a gateway is. host: lower case; prefix: what all its paths begin with, or empty."""

    scheme: str
    host: str
    port: int
    prefix: str

    @property
    def place(self) -> str:
        """The one spelling of it."""
        return self._spelled(f":{self.port}")

    @property
    def text(self) -> str:
        """As people write it: without the port that goes without saying."""
        return self._spelled("" if self.port == PORTS[self.scheme] else f":{self.port}")

    @property
    def secret_may_be_heard(self) -> bool:
        """Whether others than this machine see what is sent there."""
        if self.scheme == "https" or self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return True

    def _spelled(self, port: str) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{port}{self.prefix}"


def parse_url(url: str) -> Address:
    """http(s)://HOST[:PORT][/PREFIX]; http where no scheme is named. Raises RequestError."""
    try:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    scheme = parts.scheme if host else ""
    if not host or scheme not in PORTS or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise RequestError(f"{url!r} is not the address of a server, as http://127.0.0.1:8080")
    return Address(scheme, host, PORTS[scheme] if port is None else port, parts.path.rstrip("/"))


class Pins(NamedTuple):
    """What a gateway is known by, as hex; empty: not known."""

    key: str = ""
    certificate: str = ""


class Credential(NamedTuple):
    """What opens a gateway. session: its id, empty for a secret that everybody shares.

    expires: epoch seconds, 0 for never. key_file: where the key is that signed in.
    """

    secret: str
    session: str = ""
    expires: float = 0.0
    name: str = ""
    role: str = ""
    key_file: str = ""

    def __repr__(self) -> str:
        return f"Credential({self.session or 'shared'})"


class Keyring:
    """The two files of `folder`. Every method may raise SetupError."""

    def __init__(self, folder: Path) -> None:
        self._known = folder / "known_gateways"
        self._kept = folder / "credentials"

    def pins(self, place: str) -> Pins:
        """What is known of it."""
        for number, line in enumerate(read_text(self._known).splitlines(), 1):
            found = self._pinned(number, line)
            if found and found[0] == place:
                return Pins(*("" if word == "-" else word for word in found[1:]))
        return Pins()

    def pin(self, place: str, pins: Pins) -> None:
        """Know it by these from now on; by nothing, where both are empty."""
        words = [place, pins.key or "-", pins.certificate or "-"]

        def edit(text: str) -> str:
            kept = [line for number, line in enumerate(text.splitlines(), 1)
                    if (self._pinned(number, line) or [""])[0] != place]
            return "".join(f"{line}\n" for line in (kept + [" ".join(words)] * any(pins)))

        change_text(self._known, edit)

    def credential(self, place: str) -> Credential | None:
        """What opens it, if we have that."""
        return self._read(read_text(self._kept, private=True)).get(place)

    def keep(self, place: str, credential: Credential | None) -> None:
        """What opens it from now on; None: forget what did."""

        def edit(text: str) -> str:
            kept = self._read(text)
            kept.pop(place, None)
            if credential is not None:
                kept[place] = credential
            plain = {name: one._asdict() for name, one in sorted(kept.items())}
            return json.dumps(plain, indent=1) + "\n" if plain or text else ""

        change_text(self._kept, edit, private=True)

    def _pinned(self, number: int, line: str) -> list[str] | None:
        words = line.partition("#")[0].split()
        if not words:
            return None
        # A line that is passed over would make a known gateway a new one.
        if len(words) != 3 or not all(_HEX.fullmatch(word) for word in words[1:]):
            raise SetupError(f"{self._known} line {number} is not PLACE KEY CERTIFICATE: mend or"
                             " remove it")
        return words

    def _read(self, text: str) -> dict[str, Credential]:
        try:
            kept: Any = json.loads(text or "{}")
            return {place: Credential(str(one["secret"]), str(one["session"]),
                                      float(one["expires"]), str(one["name"]), str(one["role"]),
                                      str(one["key_file"]))
                    for place, one in kept.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
            raise SetupError(f"{self._kept} is damaged: remove it, and sign in again") from None
