"""What the charts of the page are drawn from."""

from __future__ import annotations

import json

from gateway.figures import Figures
from gateway.pulse import counted


def test_only_downloads_are_timed_and_all_bytes_counted() -> None:
    figures = Figures()
    assert counted(figures) == {"received": 0, "sent": 0, "downloaded": 0, "downloads": []}
    for seconds in (0.002, 0.2, 100.0):
        figures.add("GET", "/{link}", 200, seconds, 0, 1000)
    figures.add("POST", "/api/upload", 200, 0.2, 500, 10)
    figures.add("HEAD", "/{link}", 200, 0.2, 0, 0)
    told = counted(figures)
    assert (told["received"], told["sent"], told["downloaded"]) == (500, 3010, 3)
    downloads = dict(told["downloads"])
    assert (downloads[0.001], downloads[0.0025], downloads[0.25], downloads[60.0]) == (0, 1, 2, 2)
    json.dumps(told, allow_nan=False)
