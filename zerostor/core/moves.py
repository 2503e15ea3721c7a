"""What the keeper says of the stores: what lies on them, and how moving away from them goes."""

from __future__ import annotations

import msgspec

from zerostor.core.msgpack import UNDECODABLE


class StoreCount(msgspec.Struct, frozen=True):
    """What records name on one store, counted by the last pass. bytes: of cells; a shard of a
    volume counts once for each of its packs.
    """

    shards: int = 0
    bytes: int = 0


class DrainState(msgspec.Struct, frozen=True, omit_defaults=True):
    """How emptying one store goes. shards, bytes: left at the last pass; moved: since this keeper
    leads. waiting: of those left, packs in volumes that may be appended to yet. rebuilding: handed
    to repair, since they could not be read. eta: seconds, 0 for unknown. empty: no record names it.
    problem: why it does not get on, for a person.
    """

    shards: int = 0
    bytes: int = 0
    moved: int = 0
    moved_bytes: int = 0
    waiting: int = 0
    rebuilding: int = 0
    eta: float = 0.0
    empty: bool = False
    problem: str = ""


class EvenState(msgspec.Struct, frozen=True, omit_defaults=True):
    """How filling all stores alike goes. bytes: to be moved yet; spread: per cent of the mean by
    which the fullest was above it at the last pass.
    """

    running: bool = False
    bytes: int = 0
    moved: int = 0
    moved_bytes: int = 0
    spread: float = 0.0
    problem: str = ""


class MovesState(msgspec.Struct, frozen=True, omit_defaults=True):
    """All of it. counted: epoch seconds of the end of the last pass, 0 of none; unknown: stores
    that records name and that are none of ours; unwritten: shards that no store took yet.
    """

    counted: float = 0.0
    stores: dict[str, StoreCount] = {}
    unknown: dict[str, StoreCount] = {}
    unwritten: int = 0
    draining: dict[str, DrainState] = {}
    even: EvenState = EvenState()
    lost: tuple[str, ...] = ()


_decoder = msgspec.json.Decoder(MovesState)


def encode_moves(state: MovesState) -> bytes:
    """For the board."""
    return msgspec.json.encode(state)


def decode_moves(stored: bytes | None) -> MovesState:
    """The reverse; what makes no sense is an empty one, for it is only shown."""
    try:
        return _decoder.decode(stored) if stored else MovesState()
    except UNDECODABLE:
        return MovesState()
