"""What the charts of the page are drawn from: what was done so far, as counters that only grow."""

from __future__ import annotations

from gateway.content import OBJECT_PATH
from gateway.figures import Figures
from gateway.seen import worker_figures
from gateway.services import Services

_SECONDS = "zerostor_http_request_duration_seconds"
_BYTES = {"zerostor_http_received_bytes_total": "received",
          "zerostor_http_sent_bytes_total": "sent"}


async def pulse(services: Services) -> dict[str, object]:
    """Of this gateway since it started, and of the workers that are alive; `at`: epoch seconds."""
    workers = (await worker_figures(services)).values()
    return {"at": round(services.clock.now(), 3),
            "stored": sum(worker.stored for worker in workers),
            "stored_bytes": sum(worker.bytes for worker in workers),
            "failed": sum(worker.failed for worker in workers)} | counted(services.figures)


def counted(figures: Figures) -> dict[str, object]:
    """received, sent: bytes of bodies; downloads: [seconds, how many took no longer than that]."""
    told: dict[str, object] = dict.fromkeys(_BYTES.values(), 0)
    downloads: list[tuple[float, float]] = []
    for metric in figures.registry.collect():
        for sample in metric.samples:
            if sample.name in _BYTES:
                told[_BYTES[sample.name]] = sample.value
            elif (sample.name == f"{_SECONDS}_bucket" and sample.labels["route"] == OBJECT_PATH
                  and sample.labels["method"] == "GET"):
                # The last bound is infinite, which JSON cannot say: it counts as the one before.
                if sample.labels["le"] != "+Inf":
                    downloads.append((float(sample.labels["le"]), sample.value))
                else:
                    told["downloaded"] = sample.value
    return {"downloaded": 0.0} | told | {"downloads": downloads}
