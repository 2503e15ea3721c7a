"""What a gateway counts of its requests while it serves them, for Prometheus.

Plain numbers, made into metrics when somebody asks: a counter with a lock, as prometheus_client has
it, costs more than all else that is done for a request beside answering it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds of the histogram of requests. A download counts until its last byte is sent."""
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"))
_BOUNDS = (*map(str, SECONDS), "+Inf")


class _Timings:
    """How long requests of one kind took. spread: how many up to each bound, and beyond them."""

    __slots__ = ("spread", "total")

    def __init__(self) -> None:
        self.spread = [0] * len(_BOUNDS)
        self.total = 0.0


class Figures:
    """Counters of this process. Labels are of sets that clients cannot add to."""

    def __init__(self) -> None:
        """All at zero. received, sent: bytes of bodies."""
        self._process = ProcessCollector(registry=None)
        self._timings: dict[tuple[str, str], _Timings] = {}
        self._answers: dict[tuple[str, str, int], int] = {}
        self.received = 0
        self.sent = 0

    def add(self, method: str, route: str, status: int, seconds: float, received: int,
            sent: int) -> None:
        """A request ended. route: as in the route table, empty for a path that is none."""
        if method not in _METHODS:
            method = "other"
        answers = self._answers
        answers[method, route, status] = answers.get((method, route, status), 0) + 1
        timings = self._timings.get((method, route))
        if timings is None:
            timings = self._timings[method, route] = _Timings()
        timings.spread[bisect_left(SECONDS, seconds)] += 1
        timings.total += seconds
        self.received += received
        self.sent += sent

    def took(self, method: str, route: str) -> list[int]:
        """How many such requests took up to each of SECONDS, and in all; empty before the first."""
        timings = self._timings.get((method, route))
        return [] if timings is None else list(accumulate(timings.spread))

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client asks for it."""
        yield from self._process.collect()
        answers = CounterMetricFamily(
            "zerostor_http_requests", "Requests that were answered; status 499: broken off.",
            labels=["method", "route", "status"])
        for (method, route, status), count in self._answers.items():
            answers.add_metric([method, route or "none", str(status)], count)
        yield answers
        seconds = HistogramMetricFamily(
            "zerostor_http_request_duration_seconds", "From the head of a request to its end.",
            labels=["method", "route"])
        for (method, route), timings in self._timings.items():
            took = map(float, self.took(method, route))
            buckets = list(zip(_BOUNDS, took, strict=True))
            seconds.add_metric([method, route or "none"], buckets, timings.total)
        yield seconds
        yield CounterMetricFamily(
            "zerostor_http_received_bytes", "Bytes of bodies that came.", value=self.received)
        yield CounterMetricFamily(
            "zerostor_http_sent_bytes", "Bytes of bodies that went.", value=self.sent)
