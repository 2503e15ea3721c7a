"""GET /metrics: what Prometheus reads, in its text format 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from gateway.services import Services
from zerostor import __version__
from zerostor.core.nodes import NodeEventKind
from zerostor.core.replication import ReplicationState, Role
from zerostor.engine.archivist import ArchiveState

EXPOSITION_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_OF_NODES = (
    ("chunks", "zerostor_node_chunks", "Chunks that a connected node keeps."),
    ("size", "zerostor_node_size_bytes", "Of its flash for chunks."),
    ("free", "zerostor_node_free_bytes", "Of its flash for chunks."),
    ("writes", "zerostor_node_writes", "Chunks written since the node started."),
)
"""Field of the hub's answer, name, text."""
_OF_TELEMETRY = (
    ("streams", "zerostor_telemetry_streams", "Streams of telemetry."),
    ("chunks", "zerostor_telemetry_chunks", "Full chunks of all streams."),
    ("waiting", "zerostor_telemetry_waiting_chunks", "Of these, without enough copies on nodes."),
    ("missing", "zerostor_telemetry_missing_copies", "Copies on nodes that those lack."),
    ("local", "zerostor_telemetry_local_bytes", "Of full chunks that the hub has itself."),
)


class Sample(NamedTuple):
    """One value of a metric."""

    labels: Mapping[str, str]
    value: float


def exposition(services: Services) -> str:
    """All metrics of this gateway."""
    lines = _metric("zerostor_build_info", "gauge", "Always 1; the version is a label.",
                    [Sample({"version": __version__}, 1)])
    stores = services.stores.stores.values()
    lines += _metric("zerostor_store_up", "gauge", "1 for a store that is up, else 0.",
                     [Sample({"store": store.name}, store.state.value == "up") for store in stores])
    if services.wire.certificates is not None:
        lines += _metric("zerostor_tls_certificate_expiry_seconds", "gauge",
                         "Seconds since 1970 at which the certificate expires.",
                         [Sample({}, services.wire.certificates.expires)])
        lines += _metric("zerostor_tls_certificate_problem", "gauge",
                         "1 while the files of the certificate cannot be used as they are now.",
                         [Sample({}, bool(services.wire.certificates.problem))])
    if services.audit is not None:
        lines += _metric("zerostor_audit_lost_total", "counter",
                         "Lines of the audit log that could not be written.",
                         [Sample({}, services.audit.lost)])
        lines += _metric("zerostor_audit_skipped_total", "counter",
                         "Refused requests that were too many for the audit log.",
                         [Sample({}, services.audit.skipped)])
    if services.role.state is not None:
        lines += _replication(services.role.state)
    if services.archivist is not None:
        lines += _archive(services.archivist.state, services.clock.now())
    return "\n".join(lines) + "\n"


def node_exposition(hub: Mapping[str, Any] | None) -> str:
    """Metrics of the node hub, as it answers them; empty where it is away, None: there is none."""
    if hub is None:
        return ""
    lines = _metric("zerostor_node_hub_up", "gauge", "1 while the node hub answers, else 0.",
                    [Sample({}, bool(hub))])
    if hub:
        nodes = hub["nodes"]
        here = {name: stat for name, stat in nodes.items() if stat is not None}
        lines += _metric("zerostor_nodes_connected", "gauge", "Nodes that are connected.",
                         [Sample({}, len(here))])
        lines += _metric("zerostor_node_up", "gauge", "1 for a node that is connected, else 0.",
                         [Sample({"node": name}, name in here) for name in nodes])
        for field, metric, text in _OF_NODES:
            lines += _metric(metric, "gauge", text, [
                Sample({"node": name}, stat[field]) for name, stat in here.items()])
        lines += _metric("zerostor_node_events_total", "counter",
                         "What happened to nodes since the hub started; refused are handshakes.",
                         [Sample({"kind": kind}, hub["events"].get(kind, 0))
                          for kind in NodeEventKind])
    return "\n".join(lines) + "\n"


def telemetry_exposition(hub: Mapping[str, Any], now: float) -> str:
    """Metrics of telemetry, as the hub answers them; empty where it does not."""
    if not hub:
        return ""
    lines = []
    for field, metric, text in _OF_TELEMETRY:
        lines += _metric(metric, "gauge", text, [Sample({}, hub[field])])
    lines += _metric("zerostor_telemetry_waiting_seconds", "gauge",
                     "For which the first chunk that waits for a node does, 0 where none waits.",
                     [Sample({}, max(0.0, now - hub["waits"]) if hub["waits"] else 0.0)])
    return "\n".join(lines) + "\n"


def _archive(state: ArchiveState, now: float) -> list[str]:
    """Of the gateway that keeps the metadata log in the pool; of others only that they do not."""
    lines = _metric("zerostor_archive_problem", "gauge",
                    "1 while the metadata log cannot be kept in the pool.",
                    [Sample({}, bool(state.problem))])
    if not state.kept:
        return lines
    return lines + _metric("zerostor_archive_age_seconds", "gauge",
                           "Since all of the metadata log was in the pool.",
                           [Sample({}, max(0.0, now - state.kept))])


def _replication(state: ReplicationState) -> list[str]:
    lines = _metric("zerostor_metadata_master", "gauge", "1 for a master, 0 for a slave.",
                    [Sample({}, state.role is Role.MASTER)])
    lines += _metric("zerostor_metadata_writable", "gauge", "1 if the metadata takes writes.",
                     [Sample({}, state.writable)])
    lines += _metric("zerostor_metadata_epoch", "gauge", "Grows by one with each promotion.",
                     [Sample({}, state.epoch)])
    lines += _metric("zerostor_metadata_records", "gauge", "Records, notes included.",
                     [Sample({}, state.records)])
    lines += _metric("zerostor_metadata_aside_bytes", "gauge",
                     "Of the log, put aside because its master never had them.",
                     [Sample({}, state.aside_bytes)])
    if state.role is Role.SLAVE:
        lines += _metric("zerostor_replication_connected", "gauge",
                         "1 while the slave hears its master.", [Sample({}, state.connected)])
        lines += _metric("zerostor_replication_differs", "gauge",
                         "1 if the last comparison found a difference.",
                         [Sample({}, bool(state.differs))])
        lines += _lag([Sample({}, state.behind_bytes)], [Sample({}, state.behind_seconds)])
        return lines + _metric("zerostor_replication_lag_entries", "gauge",
                               "Ids that the slave does not have yet.",
                               [Sample({}, state.behind_entries)])
    # Slaves on several hosts may have the same path or name as their address.
    followers = [({"slave": slave.address or slave.server, "server": slave.server}, slave)
                 for slave in state.slaves]
    return lines + _lag([Sample(labels, slave.behind_bytes) for labels, slave in followers],
                        [Sample(labels, slave.behind_seconds) for labels, slave in followers])


def _lag(in_bytes: list[Sample], seconds: list[Sample]) -> list[str]:
    return [
        *_metric("zerostor_replication_lag_bytes", "gauge",
                 "Bytes of the log that a slave does not have yet.", in_bytes),
        *_metric("zerostor_replication_lag_seconds", "gauge",
                 "Seconds since a slave last had everything.", seconds)]


def _metric(name: str, kind: str, text: str, samples: Iterable[Sample]) -> list[str]:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for sample in samples:
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels.items())
        lines.append(f"{name}{{{labels}}} {sample.value:.15g}" if labels
                     else f"{name} {sample.value:.15g}")
    return lines


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
