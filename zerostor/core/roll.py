"""What was said of stores while zerostor ran: added, draining, removed. DATA/stores.json.

The settings file stays as it is; the roll is laid over it. Of each store the newest word counts, so
rolls of several hosts are joined in any order to the same one.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from zerostor.core.errors import SetupError
from zerostor.core.msgpack import UNDECODABLE
from zerostor.core.settings import DEFAULT_POOL, StoreSettings

VERSION = 1
ENTRIES_MAX = 10_000


class RollEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last word on one store. at_ms: epoch milliseconds, greater than those of words before.

    url, pool, labels, password_file: of a store that was added, as in the settings; url is empty of
    one that the settings name. draining: nothing new goes there, and what is there goes elsewhere,
    by preference to the store `into`; leaves: it is removed once it is empty. removed: it is none
    of ours; lost: though records named it.
    """

    name: str
    at_ms: int
    url: str = ""
    pool: str = DEFAULT_POOL
    labels: dict[str, str] = {}
    password_file: str = ""
    draining: bool = False
    into: str = ""
    leaves: bool = False
    removed: bool = False
    lost: bool = False

    @property
    def settings(self) -> StoreSettings:
        """Of a store that was added; its password is in its file still."""
        return StoreSettings(self.name, self.url, self.pool, self.labels, self.password_file)


class Roll(msgspec.Struct, frozen=True):
    """The words on all stores of which something was said, by name.

    even_ms: epoch milliseconds of when it was last asked that all be filled alike; evened_ms: what
    of that is done.
    """

    version: int = VERSION
    stores: tuple[RollEntry, ...] = ()
    even_ms: int = 0
    evened_ms: int = 0

    def of(self, name: str) -> RollEntry | None:
        """The word on one store, if there is one."""
        return next((entry for entry in self.stores if entry.name == name), None)

    @property
    def draining(self) -> frozenset[str]:
        """Stores to be emptied."""
        return frozenset(entry.name for entry in self.stores
                         if entry.draining and not entry.removed)

    @property
    def removed(self) -> frozenset[str]:
        """Stores that are none of ours any more."""
        return frozenset(entry.name for entry in self.stores if entry.removed)

    def said(self, entry: RollEntry) -> Roll:
        """With one more word, which is the last one whatever its time says."""
        before = self.of(entry.name)
        if before is not None and before.at_ms >= entry.at_ms:
            entry = msgspec.structs.replace(entry, at_ms=before.at_ms + 1)
        return merged(self, Roll(stores=(entry,)))


_decoder = msgspec.json.Decoder(Roll)


def encode_roll(roll: Roll) -> bytes:
    """As JSON, for the file and for other hosts."""
    return msgspec.json.format(msgspec.json.encode(roll), indent=1) + b"\n"


def decode_roll(stored: bytes) -> Roll:
    """The reverse; nothing at all is an empty roll. Raises SetupError."""
    if not stored.strip():
        return Roll()
    try:
        roll = _decoder.decode(stored)
    except UNDECODABLE as error:
        raise SetupError(f"the roll of stores cannot be read: {error}") from None
    if roll.version != VERSION:
        raise SetupError(f"the roll of stores has version {roll.version}, not {VERSION}")
    if len(roll.stores) > ENTRIES_MAX:
        raise SetupError(f"the roll names {len(roll.stores)} stores, more than {ENTRIES_MAX}")
    return roll


def merged(one: Roll, other: Roll) -> Roll:
    """The newest word on each store."""
    newest: dict[str, RollEntry] = {}
    for entry in (*one.stores, *other.stores):
        before = newest.get(entry.name)
        # Two words of one moment: any order, but the same one on all hosts.
        if before is None or _order(before) < _order(entry):
            newest[entry.name] = entry
    return Roll(stores=tuple(newest[name] for name in sorted(newest)),
                even_ms=max(one.even_ms, other.even_ms),
                evened_ms=max(one.evened_ms, other.evened_ms))


def _order(entry: RollEntry) -> tuple[int, bytes]:
    return entry.at_ms, msgspec.json.encode(entry)


def rolled(stores: Sequence[StoreSettings], roll: Roll) -> tuple[StoreSettings, ...]:
    """The stores that there are: those of the settings, with the roll laid over them.

    Where the settings name a store that was added, at the same place, they count.
    """
    written = {store.name: store for store in stores}
    for entry in roll.stores:
        if entry.removed:
            written.pop(entry.name, None)
        elif entry.url:
            before = written.get(entry.name)
            if before is None or before.place != entry.settings.place:
                written[entry.name] = entry.settings
    return tuple(written.values())
