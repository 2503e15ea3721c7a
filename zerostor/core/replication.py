"""Who is the master, who follows it and how far behind, as plain values."""

from __future__ import annotations

import enum

import msgspec


class Role(enum.StrEnum):
    """MASTER takes writes, SLAVE copies a master's log and only reads."""

    MASTER = "master"
    SLAVE = "slave"


class FollowerState(msgspec.Struct, frozen=True):
    """A slave as its master sees it. behind_seconds: since it last had everything."""

    server: str
    address: str
    behind_bytes: int
    behind_seconds: float


class ReplicationState(msgspec.Struct, frozen=True):
    """What a metadata server tells of itself.

    server: its id, 32 hex digits. epoch: grows by one with each promotion. file, offset: the end of
    its log. next_id: the id a next record would get; records: how many there are.

    leader: id of the server that began the epoch. superseded: the epoch of a newer master that this
    server heard of, 0 if of none; successor: the id of that one, and `master` its address.

    Of a slave: master, its address; gateway, where that one's users upload, if it told; connected,
    whether it hears the master now; behind_*: entries, bytes and seconds, as of the last time that
    it did (`behind_seconds` goes on growing without it).
    problem: why it does not follow its master now.

    refuses: why it takes no writes, empty for a working master.
    compared: when the log was last compared with the master's, seconds since the epoch, 0 never;
    differs: what was different then.

    handed_over: in the answer to a promotion: the old master stopped writing, and this log has all
    that it had.
    aside_files, aside_bytes: what no other server has and its master never had, kept in files
    aside-* until a person removes them.
    term: changes when ids may become somebody else's; of a 0-db that is not ours empty. asked: the
    address that the answer came from, where there are several.
    """

    role: Role
    server: str
    epoch: int
    file: int
    offset: int
    next_id: int
    records: int
    master: str = ""
    gateway: str = ""
    connected: bool = False
    behind_entries: int = 0
    behind_bytes: int = 0
    behind_seconds: float = 0.0
    problem: str = ""
    refuses: str = ""
    compared: float = 0.0
    differs: str = ""
    slaves: list[FollowerState] = []
    leader: str = ""
    superseded: int = 0
    successor: str = ""
    handed_over: bool = False
    aside_files: int = 0
    aside_bytes: int = 0
    term: str = ""
    asked: str = ""

    @property
    def log(self) -> str:
        """What tells its log from every other; empty if it has none yet."""
        return self.term.partition(".")[0]

    @property
    def reign(self) -> tuple[int, str]:
        """Epoch and leader of its log; of two masters the one with the higher pair is right."""
        return self.epoch, self.leader

    @property
    def newest_reign(self) -> tuple[int, str]:
        """The highest that it knows of."""
        return max(self.reign, (self.superseded, self.successor))

    @property
    def writable(self) -> bool:
        """Whether it takes writes."""
        return self.role is Role.MASTER and not self.refuses

    @property
    def writer(self) -> str:
        """Where to write instead: a gateway if one is known, else a metadata server, or empty."""
        return self.gateway or self.master


def same_term(one: str, other: str) -> bool:
    """Whether two terms are one, as far as they tell.

    A log that was empty when it was asked had no name yet.
    """
    if not one or not other:
        return True
    (log, *rest), (other_log, *other_rest) = one.split("."), other.split(".")
    return rest == other_rest and (log == other_log or "" in (log, other_log))


class Comparison(msgspec.Struct, frozen=True):
    """A slave's log held against its master's, up to the end of the slave's.

    files: how many were compared; digest: BLAKE3 of their digests, hex, equal on both sides if
    `differs` is empty.
    """

    files: int
    last_id: int
    records: int
    digest: str
    differs: str = ""
