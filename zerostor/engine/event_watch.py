"""What lasts, looked at again and again: stores, how full they are, the metadata and its slaves.

One process of a host tells of it: the keeper where there is one, else a gateway.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from zerostor.core import event_texts
from zerostor.core.errors import BackendError, SetupError, ZerostorError
from zerostor.core.event_settings import EventsSettings
from zerostor.core.events import Event, EventKind
from zerostor.core.forecast import Sample, forecast
from zerostor.core.health import Condition
from zerostor.core.replication import ReplicationState, Role
from zerostor.core.units import seconds_text
from zerostor.engine.pool import StorePool
from zerostor.event_ports import EventBook
from zerostor.log_ports import Roles
from zerostor.ports import Clock

ROLE = "watch"
LEASE, HOLD_SECONDS = 30.0, 10.0
"""For how long a process is the one that tells, and between looks whether it is."""
LOOK_SECONDS = 1.0
"""Between looks at conditions that others find out, and at metadata and slaves."""
SETTLING = 10.0
"""Before the first look: a store is up until somebody asked it."""
ASK_SECONDS = 5.0
AWAY_TIMES = 3
"""Questions in a row that the metadata server does not answer before that is told."""
SAMPLE_SECONDS = 300.0
SAMPLES_KEPT = 7 * 86_400.0
"""Seconds for which is known how full a store was."""
DAYS = (1, 3, 7, 14, 30, 90, 365)
"""Told again when a forecast falls below another of these."""


class EventWatch:
    """who: unique among all processes; rank: the higher the sooner it is this one."""

    def __init__(self, who: str, rank: int, book: EventBook, stores: StorePool, roles: Roles,
                 clock: Clock, settings: EventsSettings) -> None:
        self._who = who
        self._rank = rank
        self._book = book
        self._stores = stores
        self._roles = roles
        self._clock = clock
        self._settings = settings
        self._unanswered = 0
        self._said: dict[str, str] = {}
        self._slaves: dict[str, float] = {}
        self._horizons: dict[str, int] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        await self._clock.sleep(SETTLING)
        held = asked = sampled = -SAMPLE_SECONDS
        tells = False
        while True:
            now = self._clock.monotonic()
            if now >= held + HOLD_SECONDS:
                held, told = now, tells
                tells = await self._tells()
                if not told:
                    self._said.clear()
            if tells:
                self.look_at_stores()
                if now >= asked + ASK_SECONDS:
                    asked = now
                    await self.look_at_metadata()
                if now >= sampled + SAMPLE_SECONDS:
                    sampled = now
                    await self.look_ahead()
            await self._clock.sleep(LOOK_SECONDS)

    async def _tells(self) -> bool:
        try:
            return await self._book.hold(ROLE, self._who, LEASE, self._rank)
        except BackendError:
            # Nobody can tell anything then.
            return False

    def look_at_stores(self) -> None:
        """Tell of each that is called something else."""
        for name, store in self._stores.stores.items():
            if not self._stores.known(name):
                self._change(f"store {name}", "", None)
                continue
            condition = store.condition
            event = event_texts.store_condition(name, condition, store.reason)
            if event is not None:
                state = "" if condition is Condition.UP else condition.value
                self._change(f"store {name}", state, event)

    async def look_at_metadata(self) -> None:
        """Tell whether it is there, and how its slaves are."""
        try:
            state = await self._roles.state()
        except (BackendError, SetupError) as error:
            self._unanswered += 1
            if self._unanswered >= AWAY_TIMES:
                self._change("metadata", "away", event_texts.metadata_away(str(error)))
            return
        self._unanswered = 0
        self._change("metadata", "", event_texts.metadata_back())
        if state is None:
            return
        slave = state.role is Role.SLAVE
        self._change("role", "slave" if slave else "",
                          event_texts.replication_role(state.role.value, state.master))
        if slave:
            self._look_at_ourselves(state)
        else:
            self._look_at_slaves({follower.address or follower.server: follower.behind_seconds
                                  for follower in state.slaves})

    def _change(self, topic: str, state: str, event: Event | None) -> None:
        if self._said.get(topic) != state:
            self._said[topic] = state
            self._book.change(topic, state, event)

    def _look_at_ourselves(self, state: ReplicationState) -> None:
        late = state.behind_seconds > self._settings.lag
        if late and not state.connected:
            self._say("", "cut-off", EventKind.REPLICATION_CUT_OFF,
                      f"does not hear its master {state.master}: {state.problem}")
        else:
            self._say_behind("", state.behind_seconds)
        event = event_texts.replication(EventKind.REPLICATION_DIFFERS, "",
                                        f"and its master differ: {state.differs}")
        self._change("differs", "differs" if state.differs else "",
                          event if state.differs else None)

    def _look_at_slaves(self, behind: Mapping[str, float]) -> None:
        now = self._clock.monotonic()
        for slave, seconds in behind.items():
            self._slaves[slave] = now
            self._say_behind(slave, seconds)
        for slave, seen in self._slaves.items():
            if slave not in behind and now > seen + self._settings.lag:
                self._say(slave, "cut-off", EventKind.REPLICATION_CUT_OFF,
                          f"has not asked for {seconds_text(self._settings.lag)}")

    def _say_behind(self, slave: str, seconds: float) -> None:
        if seconds > self._settings.lag:
            self._say(slave, "lags", EventKind.REPLICATION_LAGS,
                      f"is {seconds_text(seconds)} behind")
        elif seconds <= self._settings.lag / 2:
            self._say(slave, "", EventKind.REPLICATION_CAUGHT_UP, "has caught up")

    def _say(self, slave: str, state: str, kind: EventKind, why: str) -> None:
        self._change(f"slave {slave}", state, event_texts.replication(kind, slave, why))

    async def look_ahead(self) -> None:
        """Note how full each store and each pool is, and tell what will be full soon."""
        now = self._clock.now()
        with contextlib.suppress(ZerostorError):
            await self._book.add_samples(
                [(topic, Sample(now, *room)) for topic, room in self._rooms().items()],
                SAMPLES_KEPT)
            for topic, samples in (await self._book.samples()).items():
                if samples[-1].at >= now:
                    self._warn(topic, samples)

    def _rooms(self) -> dict[str, tuple[int, int]]:
        """(used, total) of each store and pool that tells."""
        rooms: dict[str, tuple[int, int]] = {}
        for name in self._stores.names:
            figures = self._stores.stores[name].figures
            if figures.total is None or figures.free is None:
                continue
            used, total = figures.total - figures.free, figures.total
            rooms[f"store {name}"] = used, total
            pool = f"pool {self._stores.pool_of(name)}"
            before = rooms.get(pool, (0, 0))
            rooms[pool] = before[0] + used, before[1] + total
        return rooms

    def _warn(self, topic: str, samples: list[Sample]) -> None:
        found = forecast(samples)
        days = 0
        if found is not None and found.seconds <= self._settings.forecast:
            days = next((day for day in DAYS if found.seconds <= day * 86_400), DAYS[-1])
        before = self._horizons.get(topic, 0)
        if before and found is not None and found.seconds <= 1.5 * self._settings.forecast:
            # A little later, or slower, is nothing to be told.
            days = min(days or before, before)
        self._horizons[topic] = days
        event: Event | None = None
        if days and found is not None:
            event = event_texts.filling_up(topic, found)
        self._change(f"room {topic}", f"{days} days" if days else "", event)
