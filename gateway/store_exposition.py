"""Metrics of stores: ours, and those that dashboards made for 0-stor look for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from zerostor.core.health import Condition, StoreFigures, StoreState
from zerostor.core.settings import StoreSettings
from zerostor.engine.pool import StorePool
from zerostor.store_ports import JudgedStore

_AS_0_STOR = ["address", "namespace", "backend_type"]


def store_metrics(settings: Sequence[StoreSettings], pool: StorePool) -> Iterator[Metric]:
    """As the last looks of this gateway found them."""
    stores = list(pool.stores.values())
    up = GaugeMetricFamily("zerostor_store_up", "1 for a store that is up, else 0.",
                           labels=["store"])
    condition = GaugeMetricFamily("zerostor_store_condition", "1 for the condition it is in.",
                                  labels=["store", "condition"])
    for store in stores:
        up.add_metric([store.name], store.state is StoreState.UP)
        for one in Condition:
            condition.add_metric([store.name, one], store.condition is one)
    yield from (up, condition)
    yield _room(stores, "zerostor_store_size_bytes", "Room on a store in all.",
                lambda figures: figures.total)
    yield _room(stores, "zerostor_store_free_bytes", "Room that is free.",
                lambda figures: figures.free)
    yield from _calls(stores)
    yield from _as_0_stor(settings, pool)


def _room(stores: Sequence[JudgedStore], name: str, text: str,
          value: Callable[[StoreFigures], int | None]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["store"])
    for store in stores:
        room = value(store.figures)
        if room is not None:
            family.add_metric([store.name], room)
    return family


def _calls(stores: Sequence[JudgedStore]) -> Iterator[Metric]:
    latency = GaugeMetricFamily(
        "zerostor_store_latency_seconds", "Of the calls of this gateway of late.",
        labels=["store", "kind", "quantile"])
    errors = CounterMetricFamily("zerostor_store_errors", "Calls of this gateway that failed.",
                                 labels=["store", "kind"])
    for store in stores:
        for kind, calls in (("read", store.figures.reads), ("write", store.figures.writes)):
            if calls.calls:
                latency.add_metric([store.name, kind, "0.5"], calls.p50)
                latency.add_metric([store.name, kind, "0.99"], calls.p99)
            errors.add_metric([store.name, kind], calls.errors)
    yield from (latency, errors)


def _as_0_stor(settings: Sequence[StoreSettings], pool: StorePool) -> Iterator[Metric]:
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
        place, room = setting.namespace, store.figures
        labels = [setting.url, "", "data"] if place is None else [
            place.server, place.namespace, "data"]
        status.add_metric(labels, store.read_state is not StoreState.DOWN)
        if room.total is not None and room.free is not None:
            limit.add_metric(labels, room.total)
            free.add_metric(labels, room.free)
            used.add_metric(labels, room.total - room.free)
    yield from (status, used, limit, free)
