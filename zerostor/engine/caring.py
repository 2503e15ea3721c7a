"""Copies of telemetry that are there: looked at again and again, and let go when not needed.

Every copy is read by its node once in the time that the settings say, and after each time the node
was away. Where the hub has the bytes it asks for a digest over a nonce and them; else, now and
then, for the bytes themselves, since a node could remember digests. A local copy that turns out
damaged, or gone, is written anew from what the node has.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from itertools import islice, takewhile

from zerostor.core.errors import ChunkCorrupt, ChunkMissing, ZerostorError
from zerostor.core.node_chunk import unwrap
from zerostor.core.performance import draw
from zerostor.core.spread import (
    Change,
    ChunkGone,
    Copy,
    CopyGone,
    CopyState,
    LineKind,
    SpreadRules,
)
from zerostor.engine.attendance import Attendance
from zerostor.engine.fetching import Fetching
from zerostor.engine.holdings import Held, Holdings
from zerostor.engine.judging import Judging, named
from zerostor.node_ports import Fleet
from zerostor.ports import Clock, RandomBytes
from zerostor.telemetry_ports import TelemetryFiles

_log = logging.getLogger(__name__)

ROUND_SECONDS = 30.0
DIGEST_SECONDS = 30.0
DROP_SECONDS = 30.0
FRESH_SECONDS = 120.0
"""A copy that was proved so recently need not be before another one goes."""
NONCE_SIZE = 16
WHOLE_EVERY = 8
"""One look in so many fetches the bytes, where there is no local copy to compare with."""
AT_ONCE = 64
"""Looks of a node in a round."""
FORGET_AT_ONCE = 1000


class Caring:
    """Run `run` as a task."""

    def __init__(self, fleet: Fleet, files: TelemetryFiles, holdings: Holdings,
                 attendance: Attendance, clock: Clock, judging: Judging, fetching: Fetching,
                 random_bytes: RandomBytes, rules: SpreadRules) -> None:
        self._fleet = fleet
        self._files = files
        self._holdings = holdings
        self._attendance = attendance
        self._clock = clock
        self._judging = judging
        self._fetching = fetching
        self._random_bytes = random_bytes
        self._rules = rules
        self._whole: dict[bytes, Held] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._forgetting = asyncio.Lock()

    def whole(self, held: Held) -> None:
        """This one has enough copies: some may go."""
        self._whole[held.chunk.id] = held

    async def run(self) -> None:
        """A round now and then, for good."""
        try:
            while True:
                await self._round()
                await self._clock.sleep(ROUND_SECONDS)
        finally:
            tasks = list(self._looking.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def forget(self, chunks: list[Held]) -> None:
        """These are no longer wanted: the book forgets them, then their files and copies go."""
        for held in chunks:
            async with self._forgetting:
                if self._holdings.get(held.chunk.id) is held:
                    await self._forget_one(held)

    async def _forget_one(self, held: Held) -> None:
        dropped: list[Change] = [self._dropped(copy) for copy in held.copies.values()]
        dropped += [self._attendance.line(LineKind.RELEASED, copy.node, copy.chunk, copy)
                    for copy in held.good()]
        held.leaving = True
        try:
            await self._holdings.write([*dropped, ChunkGone(held.chunk.id)])
        finally:
            held.leaving = False
        await self._files.remove(held.chunk.stream, held.chunk.number)

    async def _round(self) -> None:
        try:
            await self._forget_old()
        except ZerostorError as error:
            _log.warning("old telemetry stays for now: %s", error)
        for node in self._attendance.ready():
            if node not in self._looking and self._work_on(node):
                self._looking[node] = asyncio.ensure_future(self._look_over(node))
        for chunk, held in list(islice(self._whole.items(), 1000)):
            del self._whole[chunk]
            try:
                await self._let_go(held)
            except (ZerostorError, TimeoutError) as error:
                _log.info("%s: %s", named(held), error)

    async def _forget_old(self) -> None:
        if not self._rules.keep:
            return
        limit = (self._clock.now() - self._rules.keep) * 1000
        old = (held for stream in self._holdings.streams()
               for held in takewhile(lambda held: held.chunk.last < limit,
                                     self._holdings.of_stream(stream)))
        await self.forget(list(islice(old, FORGET_AT_ONCE)))

    async def _look_over(self, node: str) -> None:
        place = self._attendance.place(node)
        try:
            for copy in self._work_on(node):
                held = self._holdings.get(copy.chunk)
                async with place.turn:
                    if copy.state is CopyState.DROPPED:
                        await self._delete(copy)
                    elif held is not None and held.copies.get(node) == copy:
                        await self.look(held, copy)
                if not place.ready:
                    return
        except (ZerostorError, TimeoutError) as error:
            _log.info("%s: looking at its chunks: %s", node, str(error) or "no answer in time")
        finally:
            del self._looking[node]

    def _work_on(self, node: str) -> list[Copy]:
        """Copies to delete, and those to look at: these are sorted by when that last happened."""
        work = list(islice(self._holdings.dropped(node).values(), AT_ONCE))
        for copy in self._holdings.on_node(node).values():
            if len(work) >= 2 * AT_ONCE:
                break
            if copy.state is CopyState.HELD:
                if not self._is_due(copy):
                    break
                work.append(copy)
        return work

    def _is_due(self, copy: Copy) -> bool:
        now = self._clock.now()
        came = now - (self._clock.monotonic() - self._attendance.place(copy.node).came)
        # One of the future is of a clock that was set back.
        return not max(came, now - self._rules.recheck) <= copy.verified <= now

    async def look(self, held: Held, copy: Copy) -> bool:
        """Whether the copy is right; what follows is written down.

        Raises NodeAway, NodeFault, TimeoutError: nobody knows.
        """
        try:
            await self._prove(held, copy)
        except (ChunkMissing, ChunkCorrupt) as error:
            await self._judging.found_bad(held, copy, error)
            return False
        await self._judging.proved(held, copy)
        return True

    async def _prove(self, held: Held, copy: Copy) -> None:
        chance = self._random_bytes(NONCE_SIZE + 2)
        nonce, algorithm = chance[:NONCE_SIZE], "md5" if chance[-2] % 4 == 0 else "sha256"
        content = await self._fetching.local(held.chunk)
        if content is None and held.chunk.local:
            await self._mend(held, await self._fetching.from_node(held, copy))
            return
        if content is None:
            if chance[-1] % WHOLE_EVERY == 0:
                await self._fetching.from_node(held, copy)
                return
            nonce = b""
            expected = held.chunk.md5 if algorithm == "md5" else held.chunk.sha256
        else:
            expected = hashlib.new(algorithm, nonce + content, usedforsecurity=False).digest()
        async with asyncio.timeout(DIGEST_SECONDS):
            told = await self._fleet.digest(copy.node, copy.chunk, algorithm, nonce)
        if told != expected:
            raise ChunkCorrupt(f"its {algorithm} is another one")

    async def _mend(self, held: Held, content: bytes) -> None:
        """The local copy, which is damaged or gone. Where the disk refuses it waits for another
        look.
        """
        if not (self._is_known(held) and held.chunk.local):
            return
        _, payload = unwrap(content)
        try:  # files are worked on in order: whoever forgets the chunk from now on removes this one
            await self._files.mend(held.chunk.stream, held.chunk.number, bytes(payload))
        except ZerostorError as error:
            _log.warning("%s: its local copy stays damaged: %s", named(held), error)
        else:
            _log.warning("%s: its local copy was damaged; a node had it whole", named(held))

    async def _let_go(self, held: Held) -> None:
        """Copies beyond those wanted, wrong ones, the local one: once the others were proved."""
        good = [copy for copy in held.good()
                if self._attendance.place(copy.node).ready]
        enough = self._rules.copies
        spare = [copy for copy in held.copies.values() if copy.state is CopyState.SPOILED]
        if len(good) < enough or not (spare or len(good) > enough or self._may_free(held)):
            return
        stay = draw([self._attendance.contender(copy.node) for copy in good], enough, (),
                    self._random)
        names = {one.node for one in stay}
        for copy in [copy for copy in good if copy.node in names]:
            now = self._clock.now()
            if not now - FRESH_SECONDS <= copy.verified <= now:
                async with self._attendance.place(copy.node).turn:
                    if not await self.look(held, copy):
                        return
        surplus = [copy for copy in good if copy.node not in names]
        if any(held.copies.get(copy.node) is None or held.copies[copy.node].state
               is not CopyState.HELD for copy in good if copy.node in names):
            return
        released = [self._attendance.line(LineKind.RELEASED, copy.node, copy.chunk, copy)
                    for copy in surplus]
        dropped: list[Change] = [self._dropped(copy) for copy in (*spare, *surplus)]
        if dropped and self._is_known(held):
            await self._holdings.write([*dropped, *released])
        if self._may_free(held):
            await self._holdings.write([held.chunk._replace(local=False)])
            await self._files.remove(held.chunk.stream, held.chunk.number)

    def _may_free(self, held: Held) -> bool:
        return self._rules.nodes_only and held.chunk.local and self._is_known(held)

    def _is_known(self, held: Held) -> bool:
        return not held.leaving and self._holdings.get(held.chunk.id) is held

    async def _delete(self, copy: Copy) -> None:
        async with asyncio.timeout(DROP_SECONDS):
            await self._fleet.delete(copy.node, copy.chunk)
        if self._holdings.dropped(copy.node).get(copy.chunk) == copy:
            await self._holdings.write([CopyGone(copy.chunk, copy.node)])

    def _dropped(self, copy: Copy) -> Copy:
        return copy._replace(state=CopyState.DROPPED)

    def _random(self) -> float:
        return int.from_bytes(self._random_bytes(4)) / 2**32
