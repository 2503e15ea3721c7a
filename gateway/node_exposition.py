"""Metrics of nodes and telemetry, as the node hub answers them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from zerostor.core.nodes import NodeEventKind

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


def hub_metrics(hub: Mapping[str, Any] | None, telemetry: Mapping[str, Any], now: float
                ) -> Iterator[Metric]:
    """hub: empty where it is away, None where there is none. now: seconds since 1970."""
    if hub is None:
        return
    yield GaugeMetricFamily("zerostor_node_hub_up", "1 while the node hub answers, else 0.",
                            value=bool(hub))
    if hub:
        yield from _nodes(hub)
    for field, name, text in _OF_TELEMETRY if telemetry else ():
        yield GaugeMetricFamily(name, text, value=telemetry[field])
    if telemetry:
        since = telemetry["waits"]
        yield GaugeMetricFamily(
            "zerostor_telemetry_waiting_seconds",
            "For which the first chunk that waits for a node does, 0 where none waits.",
            value=max(0.0, now - since) if since else 0.0)


def _nodes(hub: Mapping[str, Any]) -> Iterator[Metric]:
    nodes = hub["nodes"]
    here = {name: stat for name, stat in nodes.items() if stat is not None}
    yield GaugeMetricFamily("zerostor_nodes_connected", "Nodes that are connected.",
                            value=len(here))
    up = GaugeMetricFamily("zerostor_node_up", "1 for a node that is connected, else 0.",
                           labels=["node"])
    for name in nodes:
        up.add_metric([name], name in here)
    yield up
    for field, metric, text in _OF_NODES:
        family = GaugeMetricFamily(metric, text, labels=["node"])
        for name, stat in here.items():
            family.add_metric([name], stat[field])
        yield family
    events = CounterMetricFamily(
        "zerostor_node_events",
        "What happened to nodes since the hub started; refused are handshakes.", labels=["kind"])
    for kind in NodeEventKind:
        events.add_metric([kind], hub["events"].get(kind, 0))
    yield events
