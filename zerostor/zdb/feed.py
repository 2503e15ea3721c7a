"""The master's side of replication: one slave's connection, fed with the log as it grows.

Messages that are pushed, as RESP arrays:

    log FILE OFFSET BYTES             raw bytes of a log file, its header included
    tip FILE OFFSET NEXT_ID BYTES URL what the master has: the end of its log, the id a next record
                                      would get, bytes that were not sent yet, its gateway's URL
    others JSON                       URLs by server id of the slaves that the master knows, so that
                                      one of them that is promoted can tell the rest

The slave answers with LOG ACK FILE OFFSET once it has them on its disk, and to each tip.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

import msgspec

from zerostor.core.errors import ZerostorError
from zerostor.core.limits import KIB, MIB
from zerostor.core.resp import array, bulk, integer
from zerostor.zdb.lag import Lag
from zerostor.zdb.positions import Position
from zerostor.zdb.segments import LogStore

log = logging.getLogger(__name__)

CHUNK = 512 * KIB
"""Bytes of one message."""
WINDOW = 8 * MIB
"""Bytes on their way that the slave has not confirmed."""
HEARTBEAT = 1.0
"""Seconds after which a slave hears something in any case."""
SILENCE = 30.0
"""Seconds without a word from a slave after which it is taken for gone."""


class Feed:
    """Sends a log from `position` on. slave: its id; address: where it listens itself, or empty."""

    def __init__(self, push: Callable[[bytes], bool], store: LogStore, position: Position, *,
                 slave: str, address: str, gateway: Callable[[], str],
                 others: Callable[[], dict[str, str]], hang_up: Callable[[], None],
                 now: Callable[[], float]) -> None:
        """push: sends; False when the peer takes no more for now, until `has_room` is called.

        gateway: tells the URL of the master's gateway, empty as long as that is not known. others:
        tells URLs by server id. hang_up: ends the connection.
        """
        self.slave = slave
        self.address = address
        self.confirmed = position
        self._sent = position
        self._send = push
        self._log = store
        self._now = now
        self._gateway = gateway
        self._woken = asyncio.Event()
        self._room = True
        self._told: Position | None = None
        self._others = others
        self._others_told: dict[str, str] = {}
        self._hang_up = hang_up
        self._heard = asyncio.get_running_loop().time()
        self._log_id = self._log.log_id
        self._lag = Lag()
        self._on_the_way = 0

    @property
    def behind_bytes(self) -> int:
        """Bytes of the log that the slave did not confirm."""
        return distance(self._log, self.confirmed, self._log.durable)

    @property
    def behind_seconds(self) -> float:
        """Age of the oldest bytes that it did not confirm."""
        since = self._lag.since
        return 0.0 if since is None else max(0.0, self._now() - since)

    def confirm(self, position: Position) -> None:
        """The slave has everything before `position` on its disk."""
        self._heard = asyncio.get_running_loop().time()
        if self.confirmed < position <= self._sent:
            self._on_the_way = distance(self._log, position, self._sent)
            self.confirmed = position
            self._grown()

    def start(self) -> Callable[[], None]:
        """Begin to send; returns what ends it."""
        unsubscribe = self._log.subscribe(self._grown)
        task = asyncio.ensure_future(self._run())

        def end() -> None:
            unsubscribe()
            task.cancel()

        return end

    def _grown(self) -> None:
        """The log, or what the slave has of it, is longer than before."""
        self._lag.grew(self._log.durable, self._now())
        self._lag.reached(self.confirmed)
        self._woken.set()

    def has_room(self) -> None:
        """The peer takes more again."""
        self._room = True
        self._woken.set()

    async def _run(self) -> None:
        try:
            self._grown()
            while self._log.log_id == self._log_id:
                self._woken.clear()
                while self._room and self._on_the_way < WINDOW and await self._send_chunk():
                    pass
                if self._room and self._told != self._log.durable:
                    self._send_tip()
                if asyncio.get_running_loop().time() > self._heard + SILENCE:
                    log.warning("slave %s said nothing for %g s", self.slave, SILENCE)
                    self._hang_up()
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT):
                        await self._woken.wait()
                        continue
                self._told = None
        except (ZerostorError, OSError) as error:
            log.error("slave %s cannot be fed: %s", self.slave, error)
        self._send(b"-the master cannot read on in its log\r\n")

    async def _send_chunk(self) -> bool:
        """False when the slave was sent all there is."""
        number, offset = self._sent
        durable = self._log.durable
        if self._sent >= durable:
            return False
        # What was just written is in memory; what is older may have to come from the disk.
        if number == durable.number and durable.offset - offset <= CHUNK:
            chunk = self._log.read_log(number, offset, CHUNK)
        else:
            chunk = await asyncio.to_thread(self._log.read_log, number, offset, CHUNK)
        if not chunk:
            if number >= durable.number:
                return False
            self._sent = Position(number + 1, 0)
            return True
        self._push(array([bulk(b"log"), integer(number), integer(offset), bulk(chunk)]))
        self._sent = Position(number, offset + len(chunk))
        self._on_the_way += len(chunk)
        return True

    def _send_tip(self) -> None:
        if self._told is None and (others := self._others()) != self._others_told:
            self._others_told = others
            self._push(array([bulk(b"others"), bulk(msgspec.json.encode(others))]))
        self._told = durable = self._log.durable
        left = distance(self._log, self._sent, durable)
        self._push(array([
            bulk(b"tip"), integer(durable.number), integer(durable.offset),
            integer(self._log.next_id), integer(left), bulk(self._gateway().encode())]))

    def _push(self, message: bytes) -> None:
        self._room = self._send(message)


def distance(store: LogStore, start: Position, end: Position) -> int:
    """Bytes of the log from `start` to `end`."""
    if start >= end:
        return 0
    if start.number == end.number:
        return end.offset - start.offset
    sizes = sum(file.size for file in store.log_files() if start.number <= file.number < end.number)
    return sizes - start.offset + end.offset
