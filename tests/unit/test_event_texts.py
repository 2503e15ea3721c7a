"""Events of nodes, homes and certificates: what is told of them, and when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.expiry import tell_expiry
from tests.fakes.memory_events import MemoryEvents
from tests.fakes.set_clock import SetClock
from zerostor.core.event_texts import activity_text, of_home, of_node
from zerostor.core.events import EventKind, Severity
from zerostor.core.homes import HomeEvent, HomeEvents
from zerostor.core.nodes import NodeEvent, NodeEventKind

DAY = 86_400.0


@pytest.mark.parametrize("kind", NodeEventKind)
def test_every_event_of_a_node_is_one(kind: NodeEventKind) -> None:
    event = of_node(NodeEvent(1.5, "shed-1", kind, "why"))
    assert event.kind.value.startswith("node-")
    assert event.text.startswith("node shed-1 ")
    assert event.text.endswith(": why")
    assert event.at_ms == 1500


def test_homes() -> None:
    removed = of_home(HomeEvent(1.0, "anna", HomeEvents.REMOVED, b"a\xff.jpg", "", 5))
    assert removed is not None
    assert (removed.kind, removed.severity) == (EventKind.HOME_REMOVALS, Severity.NORMAL)
    assert removed.fields["bytes"] == 5
    failed = of_home(HomeEvent(1.0, "anna", HomeEvents.FAILED, b"b", "no room"))
    assert failed is not None
    assert failed.text == "home anna: b was not stored: no room"
    assert of_home(HomeEvent(1.0, "anna", HomeEvents.STORED, b"c", "link")) is None


def test_a_certificate_is_told_of_a_month_a_week_and_a_day_before() -> None:
    clock = SetClock()
    events = MemoryEvents(clock)
    certificates = cast("Any", SimpleNamespace(place="cert.pem", expires=clock.now() + 40 * DAY))
    severities = []
    for _ in range(42 * 24):
        tell_expiry(certificates, events, clock.now())
        clock.go(3600)
    severities = [event.severity.value for event in events.told]
    assert severities == ["warning", "warning", "failure", "failure"]
    assert [event.text for event in events.told] == [
        "the certificate in cert.pem expires in 30 d 0 h",
        "the certificate in cert.pem expires in 7 d 0 h",
        "the certificate in cert.pem expires in 1 d 0 h",
        "the certificate in cert.pem expired 0.00 s ago"]
    certificates.expires = clock.now() + 90 * DAY
    for _ in range(3):
        tell_expiry(certificates, events, clock.now())
    assert events.kinds()[4:] == [EventKind.CERTIFICATE_RENEWED]


@pytest.mark.parametrize(("counted", "text"), [
    ({"uploads": 1, "bytes": 5}, "1 upload, 5 B"), ({"repairs": 2}, "2 repairs"),
    ({"uploads": 3, "bytes": 2_000_000, "repairs": 1}, "3 uploads, 2.0 MB, 1 repair")])
def test_what_went_well(counted: dict[str, int], text: str) -> None:
    assert activity_text(counted) == text
