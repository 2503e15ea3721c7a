"""Metrics of what the keeper does, as it said last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from zerostor.core.moves import MovesState
from zerostor.core.repairs import RepairState
from zerostor.core.scrub import ScrubState


class Kept(NamedTuple):
    """up: whether a keeper leads. repair: None where none said anything of late."""

    up: bool = False
    repair: RepairState | None = None
    scrub: ScrubState = ScrubState()
    moves: MovesState = MovesState()


def keeper_metrics(kept: Kept) -> Iterator[Metric]:
    """Repairs, scrub, moves."""
    yield GaugeMetricFamily("zerostor_keeper_up", "1 while a keeper looks after what is stored.",
                            value=kept.up)
    if kept.repair is not None:
        yield from _repair(kept.repair)
    yield from _scrub(kept.scrub)
    yield from _moves(kept.moves)


def _repair(state: RepairState) -> Iterator[Metric]:
    short = GaugeMetricFamily(
        "zerostor_degraded_stripe_sets",
        "Objects and packs that lack shards, by how many they lack.", labels=["lost"])
    for lost, count in state.short.items():
        short.add_metric([lost], count)
    yield short
    if state.least_spare is not None:
        yield GaugeMetricFamily(
            "zerostor_least_spare_shards",
            "How many shards more the most endangered stripe set can lose.",
            value=state.least_spare)
    yield GaugeMetricFamily("zerostor_repairs_waiting", "Stripe sets that wait for repair.",
                            value=state.waiting + state.asked)
    for name, text, value in (
            ("zerostor_repairs", "Repairs that ended well.", state.done),
            ("zerostor_repairs_failed", "Repairs that did not.", state.failed),
            ("zerostor_repaired_shards", "Shards that were made again.", state.shards),
            ("zerostor_repair_read_bytes", "Bytes that repairs read.", state.bytes_read),
            ("zerostor_repaired_bytes", "Bytes that repairs wrote.", state.bytes_written)):
        yield CounterMetricFamily(name, text, value=value)


def _scrub(state: ScrubState) -> Iterator[Metric]:
    progress = GaugeMetricFamily("zerostor_scrub_progress_ratio",
                                 "Share that the pass under way has done.", labels=["mode"])
    for mode, one in state.passes.items():
        progress.add_metric([mode], one.progress)
    ended = GaugeMetricFamily("zerostor_scrub_last_end_seconds",
                              "When the last pass ended, seconds since 1970.", labels=["mode"])
    found = GaugeMetricFamily("zerostor_scrub_bad_shards", "What the last pass found.",
                              labels=["mode", "state"])
    for mode, one in state.last.items():
        ended.add_metric([mode], one.ended)
        for kind in ("missing", "corrupt", "away"):
            found.add_metric([mode, kind], getattr(one, kind))
    yield from (progress, ended, found)
    yield GaugeMetricFamily("zerostor_orphan_shards",
                            "Shards that no record has named for a day or more.",
                            value=state.orphan_count)
    yield GaugeMetricFamily("zerostor_scrub_rate_bytes", "Bytes a second that it reads of late.",
                            value=state.rate)


def _moves(state: MovesState) -> Iterator[Metric]:
    entries = GaugeMetricFamily("zerostor_store_shards",
                                "Shards that records name on a store, by the last count.",
                                labels=["store"])
    left = GaugeMetricFamily("zerostor_drain_left_shards",
                             "Shards that are to leave a store that is drained.", labels=["store"])
    for name, count in (state.stores | state.unknown).items():
        entries.add_metric([name], count.shards)
    for name, drain in state.draining.items():
        left.add_metric([name], drain.shards)
    yield from (entries, left)
