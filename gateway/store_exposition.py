"""Metrics of stores: ours, and those that dashboards made for 0-stor look for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from zerostor.core.health import Condition, StoreState
from zerostor.core.settings import StoreSettings
from zerostor.engine.pool import StorePool
from zerostor.ports import Capacity

_AS_0_STOR = ["address", "namespace", "backend_type"]


def store_metrics(settings: Sequence[StoreSettings], pool: StorePool,
                  capacities: Mapping[str, Capacity]) -> Iterator[Metric]:
    """capacities: of the stores that told theirs."""
    stores = pool.stores
    up = GaugeMetricFamily("zerostor_store_up", "1 for a store that is up, else 0.",
                           labels=["store"])
    condition = GaugeMetricFamily("zerostor_store_condition", "1 for the condition it is in.",
                                  labels=["store", "condition"])
    for name, store in stores.items():
        up.add_metric([name], store.state is StoreState.UP)
        for one in Condition:
            condition.add_metric([name, one], store.condition is one)
    yield from (up, condition)
    yield from _room(capacities)
    yield from _as_0_stor(settings, pool, capacities)


def _room(capacities: Mapping[str, Capacity]) -> Iterator[Metric]:
    size = GaugeMetricFamily("zerostor_store_size_bytes", "Room on a store in all.",
                             labels=["store"])
    free = GaugeMetricFamily("zerostor_store_free_bytes", "Room that is free.", labels=["store"])
    for name, room in capacities.items():
        if room.total is not None:
            size.add_metric([name], room.total)
        if room.free is not None:
            free.add_metric([name], room.free)
    yield from (size, free)


def _as_0_stor(settings: Sequence[StoreSettings], pool: StorePool,
               capacities: Mapping[str, Capacity]) -> Iterator[Metric]:
    """Under the names and labels of 0-stor, as far as a store knows as much."""
    status = GaugeMetricFamily("connection_status", "1 for a backend that answers, else 0.",
                               labels=_AS_0_STOR)
    used = GaugeMetricFamily("data_size_bytes", "Used on a backend.", labels=_AS_0_STOR)
    limit = GaugeMetricFamily("data_limit_bytes", "Room on a backend in all.", labels=_AS_0_STOR)
    free = GaugeMetricFamily("data_disk_freespace_bytes", "Free on a backend.", labels=_AS_0_STOR)
    for setting in settings:
        store = pool.stores.get(setting.name)
        if store is None:
            continue
        place = setting.namespace
        labels = [setting.url, "", "data"] if place is None else [
            str(place.server), place.namespace, "data"]
        status.add_metric(labels, store.read_state is not StoreState.DOWN)
        room = capacities.get(setting.name, Capacity(None, None))
        if room.total is not None:
            limit.add_metric(labels, room.total)
        if room.free is not None:
            free.add_metric(labels, room.free)
        if room.total is not None and room.free is not None:
            used.add_metric(labels, room.total - room.free)
    yield from (status, used, limit, free)
