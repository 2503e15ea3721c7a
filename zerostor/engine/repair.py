"""Brings a stripe set back to what its record says: every shard whole, on a store that counts.

Write, then name, then delete: a new shard is durable before the record names it, and the old one
goes after that. The record changes only where it still is what was read, so nothing that others did
meanwhile is undone, and two keepers at once do no harm. Cut off anywhere, what is left behind is an
orphan at worst, and the repair is begun again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping

from zerostor.core.codec import Codec
from zerostor.core.errors import BackendError, ObjectUnreadable
from zerostor.core.record import ObjectRecord, PackRecord, StripeSet, decode_record, encode_record
from zerostor.core.repairs import WRITTEN_TO, Mended, Outcome
from zerostor.core.shard import shard_key
from zerostor.core.shard_walk import SEARCH_MAX
from zerostor.engine.bandwidth import Bandwidth
from zerostor.engine.check import Checker, Fault, Report, ShardState
from zerostor.engine.pool import Policy, StorePool
from zerostor.engine.rebuild import Workshop
from zerostor.engine.shard_rebuild import ShardRebuild
from zerostor.engine.stripe_cells import StripeCells, each_stripe
from zerostor.engine.volumes import StoredSet, is_closed, longest_gap, read_set, sets_of_volume
from zerostor.engine.write import Writer
from zerostor.ports import Clock, MetadataStore

_log = logging.getLogger(__name__)

ROUNDS = 3
"""Passes over a stripe set in which more and more turns out to be wrong."""
TRIES = 5
"""Times that a record is read again because somebody else changed it."""
DELETE_AFTER = 5.0
"""Seconds until a shard that moved is deleted in its old place: readers who know the old record
look at it again sooner."""
URGENT_SPARE = 1
"""Good shards beyond the needed ones with which a pack is not left waiting for its volume."""


class _Plan:
    """targets: a store per shard to be made; moved: those of them that can be copied."""

    def __init__(self) -> None:
        self.targets: dict[int, str] = {}
        self.moved: set[int] = set()
        self.reasons: dict[int, tuple[str, str]] = {}
        self.left: list[str] = []


class Repairer:
    """Repairs stripe sets of objects and packs. workshop: bounds what all repairs hold."""

    def __init__(self, stores: StorePool, policies: Mapping[str, Policy], metadata: MetadataStore,
                 checker: Checker, writer: Writer, codec_for: Callable[[int, int], Codec],
                 workshop: Workshop, clock: Clock) -> None:
        self.bandwidth = Bandwidth(clock)
        self._stores = stores
        self._policies = policies
        self._metadata = metadata
        self._checker = checker
        self._writer = writer
        self._codec_for = codec_for
        self._workshop = workshop
        self._clock = clock
        self._busy: dict[bytes, asyncio.Event] = {}

    async def repair(self, metadata_id: int, *, hard: bool = False, hurry: bool = False,
                     dry_run: bool = False, leave: Collection[str] = (),
                     into: Collection[str] = ()) -> Outcome:
        """Repair the stripe set of a record, or of the pack that an object lies in.

        hard: look at every byte first; hurry: leave no pack waiting until nobody appends to its
        volume. leave: stores whose shards go elsewhere, good or not; into: preferred for those.
        Raises BackendError when nothing could be done now, RecordCorrupt.
        """
        found = await self._find(metadata_id)
        if found is None:
            return Outcome(metadata_id, "gone")
        outcome = Outcome(found.metadata_id)
        async with self._alone(found.stripes.key):
            known: dict[int, str] = {}
            for turn in range(ROUNDS):
                found = await read_set(self._metadata, outcome.metadata_id)
                if found is None:
                    outcome.state = "gone"
                    break
                report = await self._look(found, known, hard=hard and not turn)
                if not turn:
                    outcome.good, outcome.needed = report.good, report.needed
                    outcome.total = len(report.stripes.stores)
                plan = self._plan(found, report, leave, into)
                outcome.left = plan.left
                if not plan.targets:
                    break
                if dry_run:
                    _note(outcome, plan, plan.targets, report)
                    break
                more = await self._mend(found, report, plan, outcome, hurry=hard or hurry)
                if not more:
                    break
                known.update(more)
        return _judged(outcome)

    async def _find(self, metadata_id: int) -> StoredSet | None:
        """The stripe set of a record, or the pack of an object."""
        stored = await self._metadata.get(metadata_id)
        record = None if stored is None else decode_record(stored)
        if isinstance(record, ObjectRecord) and record.pack is not None:
            metadata_id = record.pack
        return await read_set(self._metadata, metadata_id)

    @contextlib.asynccontextmanager
    async def _alone(self, key: bytes) -> AsyncIterator[None]:
        """One repair of the shards of `key` at a time."""
        while (ended := self._busy.get(key)) is not None:
            await ended.wait()
        self._busy[key] = asyncio.Event()
        try:
            yield
        finally:
            self._busy.pop(key).set()

    async def _look(self, found: StoredSet, known: Mapping[int, str], *, hard: bool) -> Report:
        if hard:
            report = await self._checker.check_hard(found.holder)
        else:
            (report,) = await self._checker.check_many([found.holder])
        for shard, reason in known.items():
            report.faults.setdefault(shard, Fault(ShardState.CORRUPT, reason))
        return report

    # What is to be done.

    def _plan(self, found: StoredSet, report: Report, leave: Collection[str],
              into: Collection[str]) -> _Plan:
        plan, elsewhere = _Plan(), []
        stores = self._stores
        for shard, name in enumerate(report.stripes.stores):
            fault = report.faults.get(shard)
            counts = bool(name) and not stores.is_lost(name)
            if counts and fault is None and name not in leave:
                continue
            if counts and fault is not None and fault.state is ShardState.UNKNOWN:
                plan.left.append(f"shard {shard}: store {name} is away: {fault.detail}")
                continue
            plan.reasons[shard] = _why(name, fault, counts=counts)
            if fault is None:
                plan.moved.add(shard)
            if counts and name not in leave and stores.takes(name):
                plan.targets[shard] = name
            else:
                elsewhere.append(shard)
        if elsewhere:
            policy = self._policy_of(found, report.stripes)
            places = stores.place_missing(policy, report.stripes.stores, elsewhere, into)
            for shard, name in zip(elsewhere, places, strict=True):
                if name:
                    plan.targets[shard] = name
                else:
                    plan.left.append(f"shard {shard}: no store may take it now")
        return plan

    def _policy_of(self, found: StoredSet, stripes: StripeSet) -> Policy:
        """Whose stores may have its shards: the policy of the record, or the likeliest."""
        named = found.record.policy if isinstance(found.record, ObjectRecord) else ""
        shape = (stripes.data, stripes.parity)

        def rank(policy: Policy) -> tuple[bool, bool, int]:
            same = (policy.codec.data, policy.codec.parity) == shape
            shared = len(set(stripes.stores).intersection(self._stores.members(policy)))
            return same and policy.name == named, same, shared

        best = max(self._policies.values(), key=rank)
        return best._replace(codec=self._codec_for(*shape))

    # Doing it.

    async def _mend(self, found: StoredSet, report: Report, plan: _Plan,
                    outcome: Outcome, *, hurry: bool) -> dict[int, str]:
        """Make the shards; what was found wrong besides, so that another pass is due."""
        sets = await sets_of_volume(self._stores, self._metadata, found)
        whole = is_closed(sets, self._clock.now()) and longest_gap(sets) <= SEARCH_MAX
        patient = not hurry and report.spare > URGENT_SPARE
        if not whole and patient and not is_closed(sets, self._clock.now()):
            outcome.left.append(WRITTEN_TO)
            return {}
        if whole:
            try:
                return await self._rebuild(sets, report, plan, outcome)
            except ObjectUnreadable as error:
                if len(sets) == 1:
                    outcome.state = "unreadable"
                    outcome.left.append(str(error))
                    return {}
                # Another pack of the volume may be beyond help; this one need not wait for it.
        await self._write_again(found, report, plan, outcome)
        return {}

    async def _rebuild(self, sets: list[StoredSet], report: Report, plan: _Plan,
                       outcome: Outcome) -> dict[int, str]:
        units = [each.holder for each in sets]
        bad = [shard for shard, fault in report.faults.items()
               if fault.state is not ShardState.UNKNOWN]
        rebuild = ShardRebuild(self._stores, self._workshop, self._codec_for, self.bandwidth,
                               units, plan.targets, bad, plan.moved)
        try:
            await rebuild.run()
        finally:
            outcome.read += rebuild.bytes_read
            outcome.written += rebuild.bytes_written
        outcome.left += [f"shard {shard}: {why}" for shard, why in rebuild.failed.items()]
        named = await self._name(sets, rebuild.written)
        key = report.stripes.key
        for shard, name in rebuild.written.items():
            before = report.stripes.stores[shard]
            if (shard, name) not in named:
                # Not ours any more: removed, or mended by another in another place.
                await self._delete(name, shard_key(key, shard))
            elif before not in ("", name) and before not in self._stores.lost:
                self._stores.later(self._delete_later(before, shard_key(key, shard)))
        _note(outcome, plan, {shard: name for shard, name in rebuild.written.items()
                              if (shard, name) in named}, report)
        return {shard: why for shard, why in rebuild.found.items() if shard not in plan.targets}

    async def _name(self, sets: list[StoredSet], written: Mapping[int, str]
                    ) -> set[tuple[int, str]]:
        """Have the records name the shards; what they name of them in the end."""
        named: set[tuple[int, str]] = set()
        left, changes = [], []
        for each in sets:
            after = _renamed(each, each, written)
            if after is None:
                left.append(each)
            else:
                changes.append((each, after))
        done = await self._metadata.replace([(each.metadata_id, each.stored, each.at(after))
                                             for each, after in changes])
        if any(done):
            named.update(written.items())
        left += [each for (each, _), good in zip(changes, done, strict=True) if not good]
        for each in left:
            named |= await self._name_again(each, written)
        return named

    async def _name_again(self, before: StoredSet, written: Mapping[int, str]
                          ) -> set[tuple[int, str]]:
        """As `_name`, of a record that may have changed: a shard that another put elsewhere
        meanwhile stays where he put it.
        """
        for _ in range(TRIES):
            now = await read_set(self._metadata, before.metadata_id)
            if now is None or now.stripes.key != before.stripes.key:
                return set()
            after = _renamed(now, before, written)
            if after is None:
                return {(shard, name) for shard, name in written.items()
                        if now.stripes.stores[shard] == name}
            await self._metadata.replace([(now.metadata_id, now.stored, now.at(after))])
        return set()

    async def _write_again(self, found: StoredSet, report: Report, plan: _Plan,
                           outcome: Outcome) -> None:
        """A pack whose volume cannot be made whole moves to another one, under its id."""
        holder, record = found.holder, found.record
        assert isinstance(record, PackRecord)
        stripes = holder.stripes
        shards = [shard for shard, name in enumerate(stripes.stores)
                  if name and shard not in report.faults]
        stream = each_stripe(self._stores, self._workshop, stripes,
                             lambda cells: self._load_data(cells, shards, outcome))
        async with contextlib.aclosing(stream) as loaded:
            async for cells in loaded:
                views = cells.views(0, stripes.size)
                policy = self._policy_of(found, stripes)
                for _ in range(2):
                    places = await self._writer.write_again(
                        views, stripes.size, policy, holder.metadata_id, record.members)
                    if all(places.stores):
                        break
                    # A volume may lack what its stores lost; the next one is laid out anew.
        after = encode_record(PackRecord(places, record.objects, record.members,
                                         int(self._clock.now() * 1000)))
        (done,) = await self._metadata.replace([(holder.metadata_id, found.stored, after)])
        outcome.written += sum(map(bool, places.stores)) * places.layout.shard_size
        if done:
            _note(outcome, plan, {shard: places.stores[shard] for shard in plan.targets
                                  if places.stores[shard]}, report)
            outcome.left = []
        else:
            outcome.left.append("its record changed meanwhile: again later")

    async def _load_data(self, cells: StripeCells, shards: Collection[int],
                         outcome: Outcome) -> None:
        await self.bandwidth.take(len(shards) * cells.stripe.cell)
        await cells.load(shards)
        outcome.read += len(shards) * cells.stripe.cell
        stripes = cells.stripes
        await cells.compute(range(stripes.data), self._codec_for(stripes.data, stripes.parity))

    async def _delete_later(self, name: str, key: str) -> None:
        await self._clock.sleep(DELETE_AFTER)
        await self._delete(name, key)

    async def _delete(self, name: str, key: str) -> None:
        store = self._stores.stores.get(name)
        if store is not None:
            with contextlib.suppress(BackendError):
                await store.delete(key)


def _note(outcome: Outcome, plan: _Plan, made: Mapping[int, str], report: Report) -> None:
    outcome.mended += [Mended(shard, name, report.stripes.stores[shard], *plan.reasons[shard])
                       for shard, name in made.items()]


def _why(name: str, fault: Fault | None, *, counts: bool) -> tuple[str, str]:
    """What is the matter with a shard: in a word, and for people."""
    if not name:
        return "unwritten", "it was never written"
    if not counts:
        return "lost", f"store {name} counts no more"
    if fault is None:
        return "leaving", f"store {name} is to be emptied"
    return fault.state.value, fault.detail


def _renamed(now: StoredSet, before: StoredSet, written: Mapping[int, str]
             ) -> tuple[str, ...] | None:
    """The places of `now` with those shards changed that are where they were; None if that is none.
    """
    places = list(now.stripes.stores)
    for shard, name in written.items():
        if places[shard] == before.stripes.stores[shard]:
            places[shard] = name
    return tuple(places) if tuple(places) != now.stripes.stores else None


def _judged(outcome: Outcome) -> Outcome:
    if outcome.state == "healthy" and (outcome.mended or outcome.left):
        outcome.state = "degraded" if outcome.left else "repaired"
    return outcome
