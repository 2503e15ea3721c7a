"""The scrub as plain values: passes over everything that is stored, how they go, what to do."""

from __future__ import annotations

import enum

import msgspec

from zerostor.core.errors import BadRequest
from zerostor.core.msgpack import UNDECODABLE

NAME = "scrub"
"""Under which it is shown, and commands are sent."""
STATE = "scrub-state"
"""Under which it is published whole, so that another keeper can go on."""
STATE_KEEP = 30 * 86_400.0
SHOWN_KEEP = 3600.0
ORPHANS_SHOWN = 1000
HOUR, DAY = 3600.0, 86_400.0
SOFT_EVERY = 6 * HOUR
"""Between the beginnings of two soft passes."""
HARD_EVERY = 20 * HOUR
"""Between those of hard passes, and how long one takes, where there is time: so damage of any kind
is found within a day. Where there is not, [keeper] scrub says how long it may take."""


class Mode(enum.StrEnum):
    """SOFT: every shard is there, of the right size and with its trailer. HARD: each byte is read.
    """

    SOFT = "soft"
    HARD = "hard"


class ScrubPass(msgspec.Struct):
    """One pass over all records. Times are epoch seconds.

    asked: begun by hand, so as fast as it may. next_id: records below are done; last_id: the
    highest when it began, 0 if unknown. records, sets, size: records and stripe sets looked at, and
    bytes of shards. missing, corrupt, away: shards; unreadable: stripe sets; unknown: records that
    cannot be read. repairs: asks for them. orphans: shards that no record names, None if nobody
    looked. stopped: it was ended by hand.
    """

    mode: Mode
    begun: float
    asked: bool = False
    next_id: int = 0
    last_id: int = 0
    records: int = 0
    sets: int = 0
    size: int = 0
    missing: int = 0
    corrupt: int = 0
    away: int = 0
    unreadable: int = 0
    unknown: int = 0
    repairs: int = 0
    orphans: int | None = None
    ended: float = 0.0
    stopped: bool = False
    record_count: int = 0
    term: str = ""

    @property
    def progress(self) -> float:
        """Share that is done, 0 to 1."""
        if self.ended:
            return 1.0
        return min(1.0, self.next_id / self.last_id) if self.last_id else 0.0


class Orphan(msgspec.Struct, frozen=True):
    """A shard that no record names. first_seen: epoch seconds."""

    store: str
    key: str
    first_seen: float


class ScrubState(msgspec.Struct):
    """What the keeper says of it. updated: epoch seconds; the newer state counts.

    passes: those under way, by mode; last: the last ones that ended. held_back: why it rests more
    than it works, empty if it does not. rate: bytes a second of late. estimate: epoch seconds when
    the hard pass ends, 0 if unknown. orphans: seen for a day or more, the first of them; young:
    those seen for less.
    """

    updated: float = 0.0
    paused: bool = False
    passes: dict[Mode, ScrubPass] = {}
    last: dict[Mode, ScrubPass] = {}
    held_back: str = ""
    rate: float = 0.0
    estimate: float = 0.0
    orphans: list[Orphan] = []
    orphan_count: int = 0
    young: int = 0
    removed: int = 0


class Action(enum.StrEnum):
    """What one may do with it."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    REMOVE_ORPHANS = "remove-orphans"


class ScrubCommand(msgspec.Struct, frozen=True):
    """mode: of the pass to start or stop; None: a hard one to start, all to stop."""

    action: Action
    mode: Mode | None = None


class ScrubShown(msgspec.Struct, frozen=True):
    """The same for people and programs, as GET /api/scrub answers it.

    state: "running", "paused", "idle", or "unknown" where no keeper said anything. mode, progress
    (0 to 1), eta (seconds, None if unknown): of the pass that is worked on. found: shards that it
    found wrong. orphans: how many; listed: the first of them.
    """

    state: str
    mode: str = ""
    progress: float = 0.0
    eta: float | None = None
    found: int = 0
    orphans: int = 0
    young: int = 0
    removed: int = 0
    paused: bool = False
    held_back: str = ""
    rate: float = 0.0
    updated: float = 0.0
    passes: list[ScrubPass] = []
    last: list[ScrubPass] = []
    listed: list[Orphan] = []


UNKNOWN = ScrubShown("unknown")


def shown(state: ScrubState) -> ScrubShown:
    """What there is to see of `state`."""
    passes = [state.passes[mode] for mode in Mode if mode in state.passes]
    now = passes[0] if passes else None
    hard = now is not None and now.mode is Mode.HARD
    return ScrubShown(
        "paused" if state.paused else "running" if passes else "idle",
        now.mode.value if now else "", round(now.progress, 4) if now else 0.0,
        round(max(0.0, state.estimate - state.updated), 1) if hard and state.estimate else None,
        now.missing + now.corrupt if now else 0, state.orphan_count, state.young, state.removed,
        state.paused, state.held_back, state.rate, state.updated, passes,
        [state.last[mode] for mode in Mode if mode in state.last], state.orphans)


_state = msgspec.json.Decoder(ScrubState)
_command = msgspec.json.Decoder(ScrubCommand)


def encode(value: ScrubState | ScrubShown | ScrubCommand) -> bytes:
    """As JSON."""
    return msgspec.json.encode(value)


def decode_state(stored: bytes | None) -> ScrubState:
    """A state, an empty one if there is none or it cannot be read."""
    try:
        return _state.decode(stored or b"")
    except UNDECODABLE:
        return ScrubState()


def decode_command(body: bytes) -> ScrubCommand:
    """A command. Raises BadRequest."""
    try:
        return _command.decode(body)
    except UNDECODABLE as error:
        raise BadRequest(f"no command for the scrub: {error}") from None
