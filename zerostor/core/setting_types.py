"""The types of settings that are not plain text, numbers and lists."""

from __future__ import annotations

from typing import NewType

Size = NewType("Size", int)
"""Bytes, written with a unit."""
Seconds = NewType("Seconds", float)
"""Written with a unit, as 5m."""
Urls = NewType("Urls", tuple[str, ...])
"""One address or more, written as a list, or with commas between them."""
Networks = NewType("Networks", tuple[str, ...])
"""Addresses of hosts and networks, as 10.0.0.0/8, written as Urls are."""


class Secret:
    """Text that no repr, log line or error shows; `reveal` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself; call it where it goes over the wire, and nowhere else."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "***" if self._text else "''"
