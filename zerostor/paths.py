"""Where everything lies below the folder of a zerostor."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Paths(msgspec.Struct, frozen=True):
    """Where everything lies. run: sockets, in a short folder elsewhere if `root` is too deep."""

    root: Path
    spool: Path
    metadata: Path
    redis: Path
    logs: Path
    stores: Path
    run: Path

    @property
    def lock(self) -> Path:
        """Held by `zerostor up` while it runs."""
        return self.root / ".lock"

    @property
    def stores_marker(self) -> Path:
        """There once the default stores were made; they are never made again by themselves."""
        return self.stores / ".started"

    @property
    def roll(self) -> Path:
        """What was said of stores since the settings were written."""
        return self.root / "stores.json"

    @property
    def identity(self) -> Path:
        """The key that signs for this zerostor."""
        return self.root / "identity.key"

    @property
    def containers(self) -> Path:
        """Our own copy of the index of what holds the metadata log."""
        return self.root / "containers"

    @property
    def keeper(self) -> Path:
        """How far the keeper is, for when it starts again."""
        return self.root / "keeper"

    @property
    def scrub_book(self) -> Path:
        """How far the scrub is, and which shards no record names."""
        return self.keeper / "scrub.db"

    @property
    def redis_socket(self) -> Path:
        """Where the embedded Redis listens."""
        return self.run / "redis.sock"

    @property
    def zdb_socket(self) -> Path:
        """Where the embedded metadata server listens."""
        return self.run / "zdb.sock"

    @property
    def events(self) -> Path:
        """The book of events, of all processes of this host."""
        return self.root / "events.db"

    @property
    def audit(self) -> Path:
        """Who did what, as JSON lines; older ones lie beside it."""
        return self.logs / "audit.jsonl"

    @property
    def sessions_book(self) -> Path:
        """Sessions of who signed in, logins that were used, what was revoked."""
        return self.root / "gateway" / "sessions.db"

    @property
    def ssh(self) -> Path:
        """What the SSH process keeps, besides the homes themselves."""
        return self.root / "ssh"

    @property
    def host_key(self) -> Path:
        """What the SSH server proves itself with."""
        return self.ssh / "host_key"

    @property
    def homes_book(self) -> Path:
        """Users of SSH homes, their keys, jobs, links."""
        return self.ssh / "homes.db"

    @property
    def ssh_socket(self) -> Path:
        """Where the gateway asks the SSH process."""
        return self.run / "ssh.sock"

    @property
    def nodes(self) -> Path:
        """What the node hub keeps."""
        return self.root / "nodes"

    @property
    def nodes_book(self) -> Path:
        """Nodes that may dial in, with their keys; what happened."""
        return self.nodes / "nodes.db"

    @property
    def telemetry(self) -> Path:
        """What was appended to streams of telemetry, as far as it is kept here."""
        return self.root / "telemetry"

    @property
    def telemetry_book(self) -> Path:
        """Which node has which chunk of telemetry; the ledger."""
        return self.nodes / "telemetry.db"

    @property
    def console_socket(self) -> Path:
        """The console of the node hub: a line protocol for people."""
        return self.run / "console.sock"

    @property
    def nodes_socket(self) -> Path:
        """Where the gateway asks the node hub."""
        return self.run / "nodes.sock"

    @property
    def shards_socket(self) -> Path:
        """Where stores on nodes ask the node hub for shards."""
        return self.run / "shards.sock"
