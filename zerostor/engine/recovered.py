"""What came of a recovery: found, missing, doubtful; whether that is everything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from zerostor.core.container_index import ContainerIndex, Refused
from zerostor.engine.known import Names
from zerostor.engine.salvage import Findings


@dataclass
class Summary:
    """What came of it. index: the container index that was believed, None without one.

    containers: parts of the log; broken: those that could not be had. in_log, salvaged: objects and
    packs, by where their records came from. missing: objects that cannot be read, by link or by
    what else is known. abandoned: what little is left of writes that were cut off long before the
    log ended. lost: links whose id went to another object. stores: names that records
    give, and how often. policies: how often each had which (data, parity); that of packs, which do
    not say theirs, is "". salted, plain: policies with private objects, and with public ones.
    """

    index: ContainerIndex | None = None
    signer: bytes = b""
    refused: list[Refused] = field(default_factory=list)
    containers: int = 0
    broken: Names = field(default_factory=Names)
    in_log: Counter[str] = field(default_factory=Counter)
    salvaged: Counter[str] = field(default_factory=Counter)
    missing: Names = field(default_factory=Names)
    abandoned: Names = field(default_factory=Names)
    lost: Names = field(default_factory=Names)
    unbelievable: int = 0
    damaged_ids: int = 0
    next_id: int = 0
    epoch: int = 0
    verified: int = 0
    findings: Findings = field(default_factory=Findings)
    stores: Counter[str] = field(default_factory=Counter)
    policies: dict[str, Counter[tuple[int, int]]] = field(default_factory=dict)
    salted: set[str] = field(default_factory=set)
    plain: set[str] = field(default_factory=set)

    @property
    def private(self) -> set[str]:
        """Policies under which nothing was public."""
        return self.salted - self.plain

    @property
    def unsure(self) -> bool:
        """Whether so many stores were not listed that something may be on none of the others."""
        spare = min((parity for shapes in self.policies.values() for _, parity in shapes),
                    default=0)
        return len(self.findings.unlisted) > spare

    @property
    def complete(self) -> bool:
        """Whether nothing is known to be missing."""
        return not (self.broken.count or self.missing.count or self.lost.count or self.damaged_ids
                    or self.unbelievable or self.unsure)
