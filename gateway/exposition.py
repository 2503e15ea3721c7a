"""GET /metrics: what Prometheus reads. Figures that have to be asked for are a Seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from gateway.keeper_exposition import keeper_metrics
from gateway.node_exposition import hub_metrics
from gateway.seen import Seen
from gateway.services import Services
from gateway.store_exposition import store_metrics
from zerostor import __version__
from zerostor.core.figures import JOB_SECONDS, WorkerFigures
from zerostor.core.replication import ReplicationState, Role
from zerostor.engine.archivist import ArchiveState


def exposition(services: Services, seen: Seen, accept: str) -> tuple[bytes, str]:
    """All metrics of this gateway and their Content-Type, in the format that `accept` asks for."""
    encode, content_type = choose_encoder(accept)
    return encode(_Metrics(services, seen)), content_type


class _Metrics:
    """What prometheus_client takes for a registry."""

    def __init__(self, services: Services, seen: Seen) -> None:
        self._services = services
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        services, seen = self._services, self._seen
        build = GaugeMetricFamily("zerostor_build_info", "Always 1; the version is a label.",
                                  labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield from services.figures.collect()
        yield from _doors(services)
        yield from _work(seen)
        yield from store_metrics(services.store_settings, services.stores)
        if services.role.state is not None:
            yield from replication_metrics(services.role.state)
        if services.archivist is not None:
            yield from _archive(services.archivist.state, services.clock.now())
        yield from keeper_metrics(seen.kept)
        yield from hub_metrics(seen.hub, seen.telemetry, services.clock.now())


def gauge(name: str, text: str, value: float) -> Metric:
    """One value that may go up and down."""
    return GaugeMetricFamily(name, text, value=value)


def counter(name: str, text: str, value: float) -> Metric:
    """One value that grows."""
    return CounterMetricFamily(name, text, value=value)


def _doors(services: Services) -> Iterator[Metric]:
    """How clients are taken."""
    wire, catalog = services.wire, services.catalog
    yield gauge("zerostor_long_polls", "Requests that wait for something to happen.",
                wire.polls.open)
    yield counter("zerostor_catalog_hits", "Records that were found in memory.", catalog.hits)
    yield counter("zerostor_catalog_misses", "Records that had to be asked for.", catalog.misses)
    if wire.certificates is not None:
        yield gauge("zerostor_tls_certificate_expiry_seconds",
                    "Seconds since 1970 at which the certificate expires.",
                    wire.certificates.expires)
        yield gauge("zerostor_tls_certificate_problem",
                    "1 while the files of the certificate cannot be used as they are now.",
                    bool(wire.certificates.problem))
    if services.audit is not None:
        yield counter("zerostor_audit_lost", "Lines of the audit log that could not be written.",
                      services.audit.lost)
        yield counter("zerostor_audit_skipped",
                      "Refused requests that were too many for the audit log.",
                      services.audit.skipped)


def _work(seen: Seen) -> Iterator[Metric]:
    """Jobs, from the spool to their end."""
    if seen.spooled is not None:
        yield gauge("zerostor_spool_entries", "Accepted uploads that are not stored yet.",
                    seen.spooled)
    if seen.failed is not None:
        yield gauge("zerostor_failed_jobs", "Jobs that were given up and kept.", seen.failed)
    if seen.depth is not None:
        jobs = GaugeMetricFamily("zerostor_queue_jobs", "Jobs in the queue.", labels=["state"])
        for state in ("waiting", "running", "delayed"):
            jobs.add_metric([state], getattr(seen.depth, state))
        yield jobs
        yield gauge("zerostor_queue_oldest_seconds",
                    "Since the oldest job that waits or runs was queued.", seen.depth.oldest)
        yield gauge("zerostor_workers", "Workers that are alive.", len(seen.workers))
    yield from worker_metrics(seen.workers)


def worker_metrics(workers: Mapping[str, WorkerFigures]) -> Iterator[Metric]:
    """By worker, and the histogram of how long jobs took."""
    jobs = CounterMetricFamily("zerostor_worker_jobs", "Jobs that ended, or were put back to wait.",
                               labels=["worker", "outcome"])
    stored = CounterMetricFamily("zerostor_worker_stored_bytes", "Bytes of objects stored.",
                                 labels=["worker"])
    seconds = HistogramMetricFamily("zerostor_job_duration_seconds",
                                    "From the acceptance of an upload until it was stored.",
                                    labels=["worker"])
    for name, figures in workers.items():
        for outcome in ("stored", "failed", "put_back"):
            jobs.add_metric([name, outcome], getattr(figures, outcome))
        stored.add_metric([name], figures.bytes)
        total, buckets = 0, []
        for bound, count in zip((*map(str, JOB_SECONDS), "+Inf"), figures.seconds, strict=True):
            total += count
            buckets.append((bound, total))
        seconds.add_metric([name], buckets, figures.seconds_sum)
    yield from (jobs, stored, seconds)


def _archive(state: ArchiveState, now: float) -> Iterator[Metric]:
    """Of the gateway that keeps the metadata log in the pool; of others only that they do not."""
    yield gauge("zerostor_archive_problem", "1 while the metadata log cannot be kept in the pool.",
                bool(state.problem))
    if state.kept:
        yield gauge("zerostor_archive_age_seconds",
                    "Since all of the metadata log was in the pool.", max(0.0, now - state.kept))


def replication_metrics(state: ReplicationState) -> Iterator[Metric]:
    """Who leads, and how far behind whoever follows is."""
    yield gauge("zerostor_metadata_master", "1 for a master, 0 for a slave.",
                state.role is Role.MASTER)
    yield gauge("zerostor_metadata_writable", "1 if the metadata takes writes.", state.writable)
    yield gauge("zerostor_metadata_epoch", "Grows by one with each promotion.", state.epoch)
    yield gauge("zerostor_metadata_records", "Records, notes included.", state.records)
    yield gauge("zerostor_metadata_aside_bytes",
                "Of the log, put aside because its master never had them.", state.aside_bytes)
    slave = state.role is Role.SLAVE
    if slave:
        yield gauge("zerostor_replication_connected", "1 while the slave hears its master.",
                    state.connected)
        yield gauge("zerostor_replication_differs", "1 if the last comparison found a difference.",
                    bool(state.differs))
        yield gauge("zerostor_replication_lag_entries", "Ids that the slave does not have yet.",
                    state.behind_entries)
    yield _lag(state, "zerostor_replication_lag_bytes",
               "Bytes of the log that a slave does not have yet.", lambda one: one.behind_bytes)
    yield _lag(state, "zerostor_replication_lag_seconds",
               "Seconds since a slave last had everything.", lambda one: one.behind_seconds)


def _lag(state: ReplicationState, name: str, text: str, value: Callable[[Any], float]) -> Metric:
    """Of a slave its own; of a master that of each slave."""
    if state.role is Role.SLAVE:
        return gauge(name, text, value(state))
    # Slaves on several hosts may have the same path or name as their address.
    lag = GaugeMetricFamily(name, text, labels=["slave", "server"])
    for one in state.slaves:
        lag.add_metric([one.address or one.server, one.server], value(one))
    return lag
