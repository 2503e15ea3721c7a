"""Who is there, how well each did, and what is written down about it.

Nodes come and go; after a grace period what they have does not count any more. A node that came is
`ready` once what it has was compared with the book.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from zerostor.core.node_chunk import BLOCK, FILE_HEADER, blocks, erases
from zerostor.core.nodes import ChunkId, NodeState
from zerostor.core.performance import DAY, TOKENS, Contender, Outcomes, Presence, factor
from zerostor.core.spread import Copy, Known, Line, LineKind, SpreadRules, Wear, Window
from zerostor.node_ports import Fleet
from zerostor.ports import Clock
from zerostor.telemetry_ports import Roster

SHY_FIRST, SHY_MOST = 5.0, 600.0
"""Seconds that a node which failed gets nothing new, doubled each time."""
FULL_SECONDS = 600.0
"""How long a node that said it is full is believed, whatever it says meanwhile."""


class Place:
    """A node as we know it. gone: since when it is away, monotonic; None while it is here. turn:
    held by whoever asks something large of it. ready: reconciled since it came.
    """

    def __init__(self, now: float) -> None:
        self.link: tuple[float, str] | None = None
        self.gone: float | None = now
        self.came = 0.0
        self.ready = False
        self.turn = asyncio.Lock()
        self.presence = Presence(now)
        self.fails = 0
        self.shy_until = 0.0
        self.full_until = 0.0
        self.excused = False


class Attendance:
    """All nodes that were ever seen since the start, and all owners that the book knows.

    is_spent: whether nothing more is to be written to a node today.
    """

    def __init__(self, fleet: Fleet, roster: Roster, clock: Clock, rules: SpreadRules,
                 is_spent: Callable[[str], bool]) -> None:
        self._fleet = fleet
        self._roster = roster
        self._clock = clock
        self._rules = rules
        self._is_spent = is_spent
        self._places: dict[str, Place] = {}
        self._outcomes: dict[str, Outcomes] = {}
        self._wear: dict[str, Wear] = {}

    def load(self, known: Known) -> None:
        """As the book has it."""
        for window in known.windows:
            self._outcomes[window.owner] = Outcomes(window.outcomes)
        for wear in known.wear:
            self._wear[wear.node] = wear
        for copy in known.copies:
            self.place(copy.node)

    def look(self) -> tuple[list[str], list[str]]:
        """(who came, who went) since the last look; who did both in between came."""
        now, here = self._clock.monotonic(), self._fleet.connected()
        came, went = [], []
        for node, state in here.items():
            place, link = self.place(node), (state.since, state.address)
            if place.link != link:
                place.link, place.gone, place.ready, place.came = link, None, False, now
                place.presence.came(now)
                came.append(node)
        for node, place in self._places.items():
            if place.link is not None and node not in here:
                place.link, place.gone, place.ready = None, now, False
                place.presence.went(now)
                went.append(node)
        return came, went

    def place(self, node: str) -> Place:
        """What is known of it, if only its name."""
        found = self._places.get(node)
        if found is None:
            found = self._places[node] = Place(self._clock.monotonic())
        return found

    def ready(self) -> list[str]:
        """Nodes that are here and compared."""
        return [node for node, place in self._places.items() if place.ready]

    def counts(self, copy: Copy) -> bool:
        """Whether its node is here, or was within the grace period."""
        gone = self.place(copy.node).gone
        return gone is None or self._clock.monotonic() - gone < self._rules.grace

    def expired(self) -> list[str]:
        """Nodes that are away for longer than the grace period."""
        limit = self._clock.monotonic() - self._rules.grace
        return [node for node, place in self._places.items()
                if place.gone is not None and place.gone <= limit]

    def next_expiry(self) -> float:
        """Seconds until one more is away for longer than the grace period; infinity: none is."""
        limit = self._clock.monotonic() - self._rules.grace
        return min((place.gone - limit for place in self._places.values()
                    if place.gone is not None and place.gone > limit), default=math.inf)

    def contenders(self, size: int) -> list[Contender]:
        """Nodes that could take a chunk of `size` bytes, busy ones too."""
        now, here = self._clock.monotonic(), self._fleet.connected()
        found = []
        for node, place in self._places.items():
            state = here.get(node)
            if (place.ready and state is not None
                    and max(place.shy_until, place.full_until) <= now
                    and has_room(state, size) and not self._is_spent(node)
                    and self._may_wear(node, state, size)):
                found.append(self.contender(node))
        return found

    def contender(self, node: str) -> Contender:
        """A node as `performance.draw` takes it."""
        known = self._roster.find(node)
        owner = self.owner(node)
        share = self._outcomes[owner].share if owner in self._outcomes else 1.0
        presence = self.place(node).presence.share(self._clock.monotonic())
        return Contender(node, known.owner if known else "", known.site if known else "",
                         factor(share, presence))

    def owner(self, node: str) -> str:
        """Whose it is; a node that is nobody's stands for itself."""
        known = self._roster.find(node)
        return known.owner if known is not None and known.owner else f"@{node}"

    def knows(self, node: str) -> bool:
        """Whether it may still dial in."""
        return self._roster.find(node) is not None

    def is_wiped(self, node: str) -> bool:
        """Whether it comes empty because we say so, which costs its owner nothing."""
        known = self._roster.find(node)
        return self.place(node).excused or (known is not None and known.wipe)

    def outcome(self, owner: str, *, good: bool) -> Window:
        """Count it; the window is for the book."""
        found = self._outcomes.setdefault(owner, Outcomes())
        found.add(good=good)
        return Window(owner, tuple(found.last))

    def line(self, kind: LineKind, node: str, chunk: ChunkId, copy: Copy | None = None) -> Line:
        """For the ledger, as of now. copy: the one that ends with it."""
        now = self._clock.now()
        hours = max(0.0, now - copy.since) / 3600 if copy is not None else 0.0
        owner = copy.owner if copy is not None else self.owner(node)
        return Line(now, owner, node, kind, chunk, TOKENS.get(kind, 0), hours)

    def wrote(self, node: str, size: int) -> Wear:
        """Count the wear of a chunk; for the book."""
        self.place(node).fails = 0
        wear = self._today(node)
        cost = erases(size)
        self._wear[node] = Wear(node, wear.day, wear.today + cost, wear.erased + cost)
        return self._wear[node]

    def failed(self, node: str) -> None:
        """It gets nothing new for a while."""
        place = self.place(node)
        pause = min(SHY_MOST, SHY_FIRST * 2 ** min(place.fails, 20))
        place.fails += 1
        place.shy_until = self._clock.monotonic() + pause

    def is_full(self, node: str) -> None:
        """It said so."""
        self.place(node).full_until = self._clock.monotonic() + FULL_SECONDS

    def erased(self, node: str) -> float:
        """Blocks that were erased for telemetry in all."""
        return self._today(node).erased

    def owners(self) -> dict[str, tuple[float, float]]:
        """(share of good outcomes, presence of its nodes) by owner, of those that may dial in."""
        now, presences = self._clock.monotonic(), dict[str, list[float]]()
        for node in self._roster.all():
            found = self._places.get(node.name)
            presences.setdefault(self.owner(node.name), []).append(
                found.presence.share(now) if found is not None else 0.0)
        return {owner: (self._outcomes[owner].share if owner in self._outcomes else 1.0,
                        sum(shares) / len(shares)) for owner, shares in presences.items()}

    def _may_wear(self, node: str, state: NodeState, size: int) -> bool:
        budget = state.stat.blocks * self._rules.rewrites
        return self._today(node).today + erases(size) <= budget

    def _today(self, node: str) -> Wear:
        day = int(self._clock.now() // DAY)
        known = self._wear.get(node)
        if known is None:
            return Wear(node, day, 0.0, 0.0)
        return known if known.day == day else Wear(node, day, 0.0, known.erased)


def has_room(state: NodeState, size: int) -> bool:
    """Whether a chunk of `size` bytes fits, by the word of the node."""
    block = state.stat.block
    needed = blocks(size) if block == BLOCK else -(-(size + FILE_HEADER) // max(1, block))
    return state.stat.free >= needed
