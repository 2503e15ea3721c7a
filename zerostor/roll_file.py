"""The roll of stores in DATA/stores.json, which every process of the host reads and may change."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from zerostor.core.errors import SetupError
from zerostor.core.roll import Roll, decode_roll, encode_roll
from zerostor.core.setting_types import Secret
from zerostor.core.settings import StoreSettings
from zerostor.whole_file import change_text, read_text

PASSWORD_MAX = 4096
PASSWORDS = "passwords"
"""The folder below DATA for files with passwords of stores that are added."""


class RollFile:
    """Whole or not there, whoever is killed; processes that change it at once take turns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None

    def read(self) -> Roll:
        """What it says now; empty where there is none. Raises SetupError."""
        self._seen = self._mark()
        return self._decoded(read_text(self._path))

    def changed(self) -> bool:
        """Whether it is another file than at the last `read`."""
        return self._mark() != self._seen

    def change(self, edit: Callable[[Roll], Roll]) -> Roll:
        """Replace it, durably, by what `edit` makes of it; what that is. Raises SetupError."""
        kept = Roll()

        def edited(text: str) -> str:
            nonlocal kept
            before = self._decoded(text)
            kept = edit(before)
            return text if kept == before else encode_roll(kept).decode()

        change_text(self._path, edited)
        return kept

    def require_own(self, settings: StoreSettings) -> None:
        """Raise SetupError unless its password_file lies in DATA/passwords: whoever asks for a
        store by HTTP would else have any file of this host sent to a server of his.
        """
        own = os.path.realpath(self._path.with_name(PASSWORDS))
        file = settings.password_file
        if file and os.path.dirname(os.path.realpath(file)) != own:
            raise SetupError(f"store {settings.name}: the password_file of a store that is added"
                             f" while all runs lies in {own}: put it there")

    def _decoded(self, text: str) -> Roll:
        try:
            return decode_roll(text.encode())
        except SetupError as error:
            raise SetupError(f"{self._path}: {error}") from None

    def _mark(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def with_password(settings: StoreSettings) -> StoreSettings:
    """With the password out of its file, of a store that was added. Raises SetupError."""
    if not settings.password_file:
        return settings
    try:
        with open(settings.password_file, encoding="utf-8") as source:
            password = Secret(source.read(PASSWORD_MAX).strip())
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"store {settings.name}: password_file: {error}") from error
    return msgspec.structs.replace(settings, password=password)
