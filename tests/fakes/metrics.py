"""What a gateway tells Prometheus, read as Prometheus reads it."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def read_metrics(server: str) -> dict[str, float]:
    """Value by name and labels, as in `name{label="value"}`. server: URL of the gateway."""
    with urllib.request.urlopen(f"{server}/metrics") as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
            series = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert series not in found, f"{series} is told twice"
            found[series] = sample.value
    return found
