"""From errno to the error tree: who must act, and a sentence that says what is wrong."""

from __future__ import annotations

import errno

from zerostor.core.errors import BackendError, Busy, StoreFull, StoreReadOnly, StoreUnavailable

_KINDS: dict[int, type[BackendError]] = {
    errno.ENOSPC: StoreFull,
    errno.EDQUOT: StoreFull,
    errno.EFBIG: StoreFull,
    errno.EROFS: StoreReadOnly,
    # Ours to mend, and no sign of a bad disk.
    errno.EMFILE: Busy,
    errno.ENFILE: Busy,
    errno.ENOMEM: Busy,
}


def translate(error: OSError, where: str) -> BackendError:
    """The error to raise for `error`; anything not in the table makes the store unavailable."""
    kind = _KINDS.get(error.errno or 0, StoreUnavailable)
    return kind(f"{where}: {error.strerror or error}")
