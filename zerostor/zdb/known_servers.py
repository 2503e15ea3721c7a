"""What a server knows of the others of its log: where they are, and who of them was promoted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

import msgspec

from zerostor.core.errors import MetadataUnavailable, SetupError
from zerostor.core.replication import ReplicationState, Role
from zerostor.zdb.follower import Follower
from zerostor.zdb.link import Link, Peer, known_peers
from zerostor.zdb.positions import EPOCH_MAX
from zerostor.zdb.promotion import states_of
from zerostor.zdb.segments import LogStore
from zerostor.zdb.standing import keep_standing, load_standing

log = logging.getLogger(__name__)

CLAIM_SECONDS = 60.0
"""In which a server that yields to one slave yields to no other."""


class KnownServers:
    """One server's knowledge, of which `Replication` makes its role. gateway: URL of its own."""

    store: LogStore

    def __init__(self, folder: Path, listens: str, password: str) -> None:
        """listens: this server's URL, or empty. password: of all admins. Raises SetupError."""
        self.gateway = ""
        self._folder = folder
        self._standing = load_standing(folder)
        self._listens = listens
        self._password = password
        self._claim = "", 0.0
        self._follower: Follower | None = None

    def known(self) -> dict[str, str]:
        """URLs by id of the other servers of this log, as far as they told one."""
        return {server: url for server, url in self._standing.slaves.items() if url}

    def _learn(self, others: dict[str, str]) -> None:
        """Remember them."""
        if self._standing.learn(others):
            try:
                keep_standing(self._folder, self._standing)
            except SetupError as failure:
                log.warning("%s", failure)

    def _others(self, left_out: set[str]) -> list[Peer]:
        """Whom this server knows: slaves, its own and its master's, and who was promoted."""
        standing = self._standing
        urls = {*standing.slaves.values(), standing.superseded_by}
        return known_peers(urls - left_out - {self._listens}, self._password)

    @property
    def _newest_known(self) -> tuple[int, str]:
        """The latest reign that this server was told of, apart from its log."""
        return self._standing.superseded, self._standing.successor

    @property
    def _outranked(self) -> bool:
        """Whether a newer master than this log's is known."""
        return self._newest_known > self.store.reign

    def check_claim(self, epoch: int, server: str) -> None:
        """Refuse to yield to `server` while another one is being, or was, promoted.

        Raises MetadataUnavailable.
        """
        standing, now = self._standing, asyncio.get_running_loop().time()
        claimed, until = self._claim
        if claimed not in ("", server) and now < until:
            raise MetadataUnavailable("another slave is being promoted; wait a minute")
        if epoch <= standing.superseded and server != standing.successor:
            raise MetadataUnavailable(f"epoch {standing.superseded} is another server's already")
        self._claim = server, now + CLAIM_SECONDS

    def supersede(self, epoch: int, url: str, gateway: str = "", server: str = "") -> None:
        """There is a master of `epoch`: write no more.

        url: of it; gateway: where its users upload; server: its id; empty where that is not known.

        Raises MetadataUnavailable if this log is of that reign or a later one.
        """
        if epoch >= EPOCH_MAX:
            # Believed, it would leave no epoch for a promotion ever after.
            raise MetadataUnavailable(f"there is no epoch {epoch}")
        if (epoch, server) <= self.store.reign:
            raise MetadataUnavailable(f"this log is of epoch {self.store.epoch}")
        standing = self._standing
        known = standing.superseded, standing.successor
        if (epoch, server) < known:
            raise MetadataUnavailable(f"a master of epoch {known[0]} was promoted")
        same = (epoch, server) == known
        known_url = standing.superseded_by if same else ""
        known_gateway = standing.successor_gateway if same else ""
        if not same:
            log.warning("superseded by a master of epoch %d %s", epoch, url)
        heard = msgspec.structs.replace(
            standing, superseded=epoch, successor=server, superseded_by=url or known_url,
            successor_gateway=gateway or known_gateway)
        if heard != standing:
            self._standing = heard
            if self._follower is None:
                self._refuse_if_superseded()
            try:
                keep_standing(self._folder, heard)
            except SetupError:
                # So that it is written when it is heard again.
                self._standing = standing
                raise

    def _refuse_if_superseded(self) -> None:
        standing = self._standing
        if self._outranked:
            where = f" at {standing.superseded_by}" if standing.superseded_by else ""
            # Who was promoted tells its id; who only looked at the stores cannot.
            after = "; it is followed once it answers" if standing.successor else (
                ", or recovered from the stores, or they have more than this old copy of the log")
            self.store.refused = (f"another server{where} was promoted (epoch"
                                  f" {standing.superseded}){after}")

    async def _ask_others(self, *more: str) -> None:
        """Whether one of those that are known is the master by now."""
        peers = [*self._others(set()), *known_peers(more, self._password)]
        for peer, state in await states_of(peers, self.store.log_id):
            self._heed(peer, state)

    def _heed(self, peer: Peer, state: ReplicationState) -> None:
        """Supersede this server if `peer` leads instead, or knows who does."""
        if state.newest_reign <= self.store.reign:
            return
        epoch, server = state.newest_reign
        led = state.reign == state.newest_reign
        where = str(peer) if led and state.role is Role.MASTER else state.master
        if not led and state.role is Role.SLAVE:
            where = ""
        with contextlib.suppress(MetadataUnavailable, SetupError):
            self.supersede(epoch, where, "" if led else state.gateway, server)

    def _words(self, command: bytes, link: Link, epoch: int = 0) -> tuple[bytes, ...]:
        """YIELD to `epoch`, or SUPERSEDED by whoever leads: this server, or who superseded it."""
        standing = self._standing
        server, gateway, url = standing.server, self.gateway, link.announced(self._listens)
        if not epoch:
            epoch, server = self.store.reign
            if self._outranked:
                epoch, server = standing.superseded, standing.successor
                url, gateway = standing.superseded_by.encode(), standing.successor_gateway
        return (b"LOG", command, b"%d" % epoch, url, gateway.encode(), server.encode())
