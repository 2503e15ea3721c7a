"""Who has which metadata id, when the stores are asked: claims of stripe sets, and who wins.

A job that ran twice left two stripe sets with one id, and so did a pack that was half dead and
written again; metadata that was begun anew over old stores gave its ids out again. The best claim
on an id gets it: the one that most stores witness, then the newest, then the one in the later pack.
An object in a pack counts only while its own pack has the pack's id, so parts of two
attempts are never mixed. The records lie in a scratch file, so that millions take little memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple, TypeAlias

from zerostor.core.limits import WITNESSES
from zerostor.core.record import (
    ObjectRecord,
    PackRecord,
    Record,
    decode_record,
    encode_record,
)
from zerostor.core.remake import link_of
from zerostor.engine.log_parts import is_ours

Owner: TypeAlias = Callable[[int], Record | None]
"""The record that an id has already, None where it was deleted."""

ID_GAP_MAX = 1 << 24
"""Ids are given out in order. What claims one further than this above all that a few lying stores
cannot make up is not believed: it would use up the rest of the ids."""
IDS_EACH = 1024
"""Ids by which a claim that a few stores could have made up moves that bound."""


class Lost(NamedTuple):
    """A claim that lost its id to another content. link: of what cannot be had by it any more."""

    metadata_id: int
    link: str


class Claims:
    """The claims of all stripe sets. scratch: an empty file of the caller's."""

    def __init__(self, scratch: BinaryIO) -> None:
        self._scratch = scratch
        self._end = 0
        # A column for each field of a claim, then for each of a unit: 28 and 22 bytes a row.
        self._ids = array("I")
        self._units = array("I")
        self._places = array("Q")
        self._sizes = array("I")
        self._created = array("Q")
        self._packs = array("q")
        self._firsts = array("I")
        self._witnesses = array("H")
        self._ties = array("Q")

    def __len__(self) -> int:
        return len(self._ids)

    def add_object(self, metadata_id: int, record: ObjectRecord, witnesses: int) -> None:
        """An object with stripes of its own. witnesses: stores that have good shards of it."""
        assert record.stripes is not None
        self._begin_unit(-1, witnesses, record.stripes.key, record.stripes.base)
        self._add(metadata_id, record)

    def add_pack(
        self, pack_id: int, pack: PackRecord, objects: list[tuple[int, ObjectRecord]],
        witnesses: int
    ) -> None:
        """A pack with the objects in it."""
        stripes = pack.stripes
        self._begin_unit(pack_id, witnesses, stripes.key, stripes.base)
        self._add(pack_id, pack)
        for metadata_id, record in objects:
            self._add(metadata_id, record)

    def settle(self, taken: Callable[[int], bool], highest: int, owner: Owner) -> Settled:
        """Decide. taken: whether an id has an owner already, who keeps it; highest: of those."""
        free: list[int] = []
        late: list[int] = []
        for claim in range(len(self._ids)):
            (late if taken(self._ids[claim]) else free).append(claim)
        order = self._believable(sorted(free, key=self._rank), highest)
        alive = self._alive(order, owner)
        winners: list[int] = []
        losers: list[int] = []
        for claim in order:
            if not alive[self._units[claim]]:
                losers.append(claim)
            elif winners and self._ids[winners[-1]] == self._ids[claim]:
                losers.append(winners[-1])
                winners[-1] = claim
            else:
                winners.append(claim)
        losers += [claim for claim in late if self._differs(claim, owner(self._ids[claim]))]
        beside = [claim for claim in late if alive[self._units[claim]]]
        return Settled(self, winners, losers, sorted(beside, key=self._rank),
                       len(free) - len(order))

    def _differs(self, claim: int, record: Record | None) -> bool:
        """Whether an id that was not deleted has something else."""
        claimed = decode_record(self.record(claim)[1])
        return (isinstance(claimed, ObjectRecord) and record is not None
                and getattr(record, "content", b"") != claimed.content)

    def _alive(self, order: list[int], owner: Owner) -> bytearray:
        """By unit, whether it is an object, or the pack that has the pack's id."""
        packs: dict[int, int] = {}
        for claim in order:  # the last of an id is its best
            packs[self._ids[claim]] = self._units[claim]
        alive = bytearray(len(self._packs))
        for unit, pack_id in enumerate(self._packs):
            if pack_id < 0 or pack_id in packs:
                alive[unit] = pack_id < 0 or packs[pack_id] == unit
            else:
                alive[unit] = self._is_in(unit, owner(pack_id))
        return alive

    def _is_in(self, unit: int, record: Record | None) -> bool:
        """Whether the owner of a pack's id is this pack."""
        claimed = decode_record(self.record(self._firsts[unit])[1])
        return (isinstance(record, PackRecord) and isinstance(claimed, PackRecord)
                and (record.stripes.key, record.stripes.base)
                == (claimed.stripes.key, claimed.stripes.base))

    def record(self, claim: int) -> tuple[int, bytes]:
        """The id and encoded record of one claim."""
        self._scratch.seek(self._places[claim])
        return self._ids[claim], self._scratch.read(self._sizes[claim])

    def metadata_id(self, claim: int) -> int:
        """The id of one claim."""
        return self._ids[claim]

    def _rank(self, claim: int) -> tuple[int, int, int, int, int]:
        unit = self._units[claim]
        return (self._ids[claim], self._witnesses[unit], self._created[claim], self._packs[unit],
                self._ties[unit])

    def _believable(self, order: list[int], last: int) -> list[int]:
        """Without those far above all others."""
        believed, doubtful = [], 0
        for claim in order:
            sure = self._witnesses[self._units[claim]] >= WITNESSES
            if self._ids[claim] > last + ID_GAP_MAX + (0 if sure else doubtful * IDS_EACH):
                continue
            believed.append(claim)
            if sure:
                last, doubtful = self._ids[claim], 0
            else:
                doubtful += 1
        return believed

    def _begin_unit(self, pack_id: int, witnesses: int, key: bytes, base: int) -> None:
        self._packs.append(pack_id)
        self._firsts.append(len(self._ids))
        self._witnesses.append(witnesses)
        self._ties.append(int.from_bytes(key[:8], "little") ^ base)

    def _add(self, metadata_id: int, record: ObjectRecord | PackRecord) -> None:
        encoded = encode_record(record)
        self._scratch.write(encoded)
        self._ids.append(metadata_id)
        self._units.append(len(self._packs) - 1)
        self._places.append(self._end)
        self._sizes.append(len(encoded))
        self._created.append(record.created_ms)
        self._end += len(encoded)


class Settled:
    """Which claims have their ids. unbelievable: how many had an id that makes no sense."""

    def __init__(self, claims: Claims, winners: list[int], losers: list[int], beside: list[int],
                 unbelievable: int) -> None:
        self._claims = claims
        self._winners = winners
        self._losers = losers
        self._beside = beside
        self.unbelievable = unbelievable

    def __len__(self) -> int:
        return len(self._winners)

    def records(self) -> Iterator[tuple[int, bytes]]:
        """(id, encoded record) of those that won, by id."""
        return map(self._claims.record, self._winners)

    def ids(self) -> Iterator[int]:
        """Their ids, in order."""
        return map(self._claims.metadata_id, self._winners)

    def beside(self) -> Iterator[tuple[int, bytes]]:
        """(id, encoded record) of claims on ids that have an owner already; the best last."""
        return map(self._claims.record, self._beside)

    def lost(self) -> Iterator[Lost]:
        """Objects whose id went to another content."""
        contents: dict[int, bytes] = {}
        wanted = {self._claims.metadata_id(claim) for claim in self._losers}
        for claim in self._winners:
            if self._claims.metadata_id(claim) in wanted:
                metadata_id, encoded = self._claims.record(claim)
                record = decode_record(encoded)
                contents[metadata_id] = getattr(record, "content", b"")
        for claim in self._losers:
            metadata_id, encoded = self._claims.record(claim)
            record = decode_record(encoded)
            if isinstance(record, ObjectRecord) and not is_ours(record) and \
                    record.content != contents.get(metadata_id):
                yield Lost(metadata_id, link_of(metadata_id, record))
