"""From the trailers of a stripe set back to its records.

A trailer is what a store says, and its checksum has no key: whoever can write there can make one.
So a stripe set counts only with as many agreeing trailers as it needs shards, each from another
shard, and what they describe must make sense. A shard that was not found has "" as its store, and
zeros where the checksums of its cells would be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple, TypeAlias

from zerostor.core.checksum import is_salt
from zerostor.core.errors import BadExtension, ShardCorrupt
from zerostor.core.limits import CHECKSUM_SIZE, CONTENT_HASH_SIZE, METADATA_ID_MAX
from zerostor.core.link import Hash, format_link, parse_extension
from zerostor.core.record import ObjectRecord, PackRecord, StripeSet
from zerostor.core.shard import Member, Trailer, decode_members

TEXT_MAX = 64
"""Longest name of a policy or job that is believed."""
_TIME_MAX = 2**53

PackContents: TypeAlias = tuple[PackRecord, list[tuple[int, ObjectRecord]]]
"""A pack, and the objects in it by id."""
_Description: TypeAlias = tuple[object, ...]


class Found(NamedTuple):
    """The trailer of one unit of shard `number`, as store `store` has it."""

    number: int
    store: str
    trailer: Trailer


class Agreed(NamedTuple):
    """What most stores say of a unit. good: shards of which they do; witnesses: how many stores
    those lie on; others: trailers that say otherwise.
    """

    trailer: Trailer
    stripes: StripeSet
    good: int
    witnesses: int
    others: int

    @property
    def complete(self) -> bool:
        """Whether its bytes can be had."""
        return self.good >= self.trailer.data


def agree(found: Sequence[Found]) -> Agreed:
    """The description that most stores share, of trailers with one key and base; not none.

    A store has one voice, whatever it holds: one that lies can make up all shards of a set. Where
    several have the same shard, the one that has no other of the set is believed, else none, as
    long as there are enough without it.
    """
    votes = Counter(description for _, description in
                    {(one.store, _description(one.trailer)) for one in found})
    # Of equally many the one that needs more shards: it is harder to make up.
    winner = max(votes, key=lambda description: (votes[description], description[1:3]))
    agreeing = [one for one in found if _description(one.trailer) == winner]
    trailer = agreeing[0].trailer
    shards = _believable(agreeing, trailer.data)
    return Agreed(trailer, _stripe_set(trailer, shards), len(shards),
                  len({one.store for one in shards.values()}), len(found) - len(agreeing))


def _believable(agreeing: Sequence[Found], needed: int) -> dict[int, Found]:
    """One of each shard."""
    held = Counter(one.store for one in agreeing)
    copies = Counter(one.number for one in agreeing)
    shards: dict[int, Found] = {}
    doubtful = []
    for one in sorted(agreeing, key=lambda one: (held[one.store], one.store)):
        if copies[one.number] == 1 or held[one.store] == 1:
            shards.setdefault(one.number, one)
        else:
            doubtful.append(one)
    if len(shards) < needed:
        for one in doubtful:
            shards.setdefault(one.number, one)
    return shards


def _description(trailer: Trailer) -> _Description:
    return (trailer.base, trailer.data, trailer.parity, trailer.size, trailer.cell_size,
            trailer.object, trailer.pack, trailer.members)


def _stripe_set(trailer: Trailer, shards: dict[int, Found]) -> StripeSet:
    numbers = range(trailer.layout.total)
    stores = tuple(shards[number].store if number in shards else "" for number in numbers)
    unknown = bytes(trailer.layout.stripe_count * CHECKSUM_SIZE)
    columns = [shards[number].trailer.checksums if number in shards else unknown
               for number in numbers]
    checksums = b"".join(column[at : at + CHECKSUM_SIZE]
                         for at in range(0, len(unknown), CHECKSUM_SIZE) for column in columns)
    return StripeSet(trailer.key, trailer.data, trailer.parity, trailer.size, trailer.cell_size,
                     stores, checksums, trailer.base)


def object_record(member: Member, stripes: StripeSet) -> ObjectRecord:
    """The record of an object with stripes of its own. Raises ShardCorrupt."""
    _check(member, stripes.size)
    return ObjectRecord(member.job, member.content, member.size, member.ext, member.policy,
                        member.created_ms, stripes=stripes, salt=member.salt,
                        owner=member.owner)


def pack_records(
    agreed: Agreed, table: bytes
) -> PackContents:
    """The records of a pack and of the objects in its member table, with their ids.

    When it was made is not kept with the pack: it gets the time of its newest object. Raises
    ShardCorrupt for a table that makes no sense, as a whole.
    """
    pack_id, end = agreed.trailer.pack, agreed.trailer.members
    assert pack_id is not None
    members = decode_members(table)
    for member in members:
        _check(member, end)
    ids = {pack_id, *(member.metadata_id for member in members)}
    if len(ids) != len(members) + 1 or not 0 <= pack_id <= METADATA_ID_MAX:
        raise ShardCorrupt("the member table gives one id to two things")
    created = max((member.created_ms for member in members), default=0)
    objects = [(member.metadata_id,
                ObjectRecord(member.job, member.content, member.size, member.ext, member.policy,
                             member.created_ms, pack=pack_id, offset=member.offset,
                             salt=member.salt, owner=member.owner))
               for member in members]
    return PackRecord(agreed.stripes, len(members), end, created), objects


def link_of(metadata_id: int, record: ObjectRecord) -> str:
    """The link of an object."""
    return format_link(Hash(record.content, metadata_id), record.ext)


def _check(member: Member, end: int) -> None:
    """Raise ShardCorrupt for a member that no gateway made. end: of the objects' bytes."""
    texts: Collection[str] = (member.policy, member.job, member.owner)
    sound = (0 <= member.metadata_id <= METADATA_ID_MAX
             and len(member.content) == CONTENT_HASH_SIZE and is_salt(member.salt)
             and member.size >= 0 and 0 <= member.offset <= end - member.size
             and 0 <= member.created_ms <= _TIME_MAX
             and all(len(text) <= TEXT_MAX and text.isprintable() for text in texts))
    try:
        sound = sound and (not member.ext or parse_extension(member.ext) == member.ext)
    except BadExtension:
        sound = False
    if not sound:
        raise ShardCorrupt("a shard describes an object that makes no sense")
