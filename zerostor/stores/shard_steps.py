"""The writes of one shard: one after the other, and none after one that did not end well."""

from __future__ import annotations

from zerostor.core.errors import StoreUnavailable


class ShardSteps:
    """`with steps:` around each write. More than an assert: what is committed is promised whole."""

    __slots__ = ("_key", "_over")

    def __init__(self, key: str) -> None:
        self._key = key
        self._over = False

    def __enter__(self) -> None:
        """Raises StoreUnavailable if one failed, was cancelled or is still going on, or at the end.
        """
        if self._over:
            raise StoreUnavailable(f"shard {self._key} failed or ended before")
        self._over = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over = kind is not None

    def end(self) -> None:
        """Let none come any more."""
        self._over = True
