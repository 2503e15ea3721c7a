"""What a gateway counts of its requests while it serves them, for Prometheus."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds of the histogram of requests. A download counts until its last byte is sent."""
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"))


class Figures:
    """Counters of this process. Labels are of sets that clients cannot add to."""

    def __init__(self) -> None:
        """All at zero."""
        # When each was first counted would double the series, and a restart shows in the counts.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "zerostor_http_requests", "Requests that were answered; status 499: broken off.",
            ["method", "route", "status"], registry=self.registry)
        self._seconds = Histogram(
            "zerostor_http_request_duration_seconds", "From the head of a request to its end.",
            ["method", "route"], buckets=SECONDS, registry=self.registry)
        self._received = Counter(
            "zerostor_http_received_bytes", "Bytes of bodies that came.", registry=self.registry)
        self._sent = Counter(
            "zerostor_http_sent_bytes", "Bytes of bodies that went.", registry=self.registry)
        self._ways: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        """Looking a label up costs more than counting."""

    def add(self, method: str, route: str, status: int, seconds: float, received: int,
            sent: int) -> None:
        """A request ended. route: as in the route table, empty for a path that is none."""
        way = self._ways.get((method, route, status))
        if way is None:
            way = self._way(method, route, status)
        way[0].inc()
        way[1].observe(seconds)
        if received:
            self._received.inc(received)
        if sent:
            self._sent.inc(sent)

    def _way(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        known = method if method in _METHODS else "other"
        way = (self._requests.labels(known, route or "none", str(status)),
               self._seconds.labels(known, route or "none"))
        if known == method:
            self._ways[method, route, status] = way
        return way
