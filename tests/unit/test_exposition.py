"""The text that Prometheus reads."""

from __future__ import annotations

from typing import Any, cast

from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.exposition import replication_metrics, worker_metrics
from gateway.figures import Figures
from zerostor.core.figures import JOB_SECONDS, WorkerFigures, decode_figures
from zerostor.core.replication import FollowerState, ReplicationState, Role


def test_slaves_with_one_address_are_two_series() -> None:
    """On two hosts, say, each at the same path."""
    address = "unix:///srv/zerostor/run/zdb.sock"
    slaves = [FollowerState(f"{number:032x}", address, 5, 0.5) for number in range(2)]
    found = replication_metrics(
        ReplicationState(Role.MASTER, "a" * 32, 1, 0, 28, 0, 0, slaves=slaves))
    series = [(sample.name, frozenset(sample.labels.items()))
              for metric in found for sample in metric.samples]
    assert len(set(series)) == len(series)
    assert sum(("slave", address) in labels for _, labels in series) == 4


def test_what_a_worker_counted() -> None:
    figures = WorkerFigures()
    for seconds in (-1.0, 0.05, 0.051, 10_000.0):
        figures.add_stored(10, seconds)
    figures.failed = 3
    read: dict[tuple[str, str], float] = {}
    for metric in worker_metrics({"w-1": figures}):
        for sample in metric.samples:
            read[sample.name, sample.labels.get("le") or sample.labels.get("outcome", "")] = (
                sample.value)
    assert read["zerostor_worker_jobs_total", "stored"] == 4
    assert read["zerostor_worker_jobs_total", "failed"] == 3
    assert read["zerostor_worker_stored_bytes_total", ""] == 40
    bucket = "zerostor_job_duration_seconds_bucket"
    assert (read[bucket, "0.05"], read[bucket, "0.1"]) == (2, 3)
    assert (read[bucket, str(JOB_SECONDS[-1])], read[bucket, "+Inf"]) == (3, 4)
    assert read["zerostor_job_duration_seconds_count", ""] == 4


def test_what_another_version_said_is_nothing() -> None:
    assert decode_figures(b"") is None
    assert decode_figures(b'{"stored": "many"}') is None
    assert decode_figures(b'{"seconds": [1, 2]}') is None
    known = decode_figures(b'{"stored": 3, "of_tomorrow": 1}')
    assert known is not None and known.stored == 3


def test_requests_are_counted_under_labels_that_clients_cannot_invent() -> None:
    figures = Figures()
    figures.add("GET", "/{link}", 200, 0.002, 0, 100)
    figures.add("GET", "/{link}", 200, 70.0, 0, 100)
    for number in range(50):
        figures.add(f"VERB{number}", "", 405, 0.001, 7, 0)
    text = generate_latest(cast("Any", figures)).decode()
    found: dict[str, Metric] = {one.name: one for one in text_string_to_metric_families(text)}
    requests = {tuple(sample.labels.values()): sample.value
                for sample in found["zerostor_http_requests"].samples}
    assert sorted(requests.values()) == [2, 50]
    assert all("VERB" not in label for labels in requests for label in labels)
    assert found["zerostor_http_sent_bytes"].samples[0].value == 200
    assert found["zerostor_http_received_bytes"].samples[0].value == 350
    spread = {sample.labels.get("le", sample.name): sample.value
              for sample in found["zerostor_http_request_duration_seconds"].samples
              if sample.labels["method"] == "GET"}
    assert (spread["0.001"], spread["0.0025"], spread["60.0"], spread["+Inf"]) == (0, 1, 1, 2)
    assert spread["zerostor_http_request_duration_seconds_sum"] == 70.002
