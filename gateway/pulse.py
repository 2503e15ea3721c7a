"""What the charts of the page are drawn from: what was done so far, as counters that only grow."""

from __future__ import annotations

from gateway.content import OBJECT_PATH
from gateway.figures import SECONDS, Figures
from gateway.seen import worker_figures
from gateway.services import Services


async def pulse(services: Services) -> dict[str, object]:
    """Of this gateway since it started, and of the workers that are alive; `at`: epoch seconds."""
    workers = (await worker_figures(services)).values()
    return {"at": round(services.clock.now(), 3),
            "stored": sum(worker.stored for worker in workers),
            "stored_bytes": sum(worker.bytes for worker in workers),
            "failed": sum(worker.failed for worker in workers)} | counted(services.figures)


def counted(figures: Figures) -> dict[str, object]:
    """received, sent: bytes of bodies; downloads: [seconds, how many took no longer than that]."""
    took = figures.took("GET", OBJECT_PATH)
    # What took longer than the last bound counts as downloaded only.
    return {"received": figures.received, "sent": figures.sent,
            "downloaded": took[-1] if took else 0,
            "downloads": list(zip(SECONDS, took, strict=False))}
