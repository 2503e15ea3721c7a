"""Who may connect to the SSH server, and who has to go."""

from __future__ import annotations

import logging

import pytest

from sshgw.admission import LOG_PERIOD, PATIENCE, STRANGERS_MAX, Admission


class Guest:
    aborted = False

    def abort(self) -> None:
        self.aborted = True


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def arrive(admission: Admission) -> Guest:
    guest = Guest()
    assert admission.full() == ""
    admission.arrived(guest)
    return guest


def test_who_waits_long_gives_way_and_who_just_came_does_not(clock: Clock) -> None:
    admission = Admission(1000, 10, clock.monotonic)
    guests = [arrive(admission) for _ in range(STRANGERS_MAX)]
    assert "logins are under way" in admission.full()
    clock.now = PATIENCE
    arrive(admission)
    assert [guest.aborted for guest in guests[:2]] == [True, False]


def test_who_is_logged_in_never_gives_way(clock: Clock) -> None:
    admission = Admission(2, 10, clock.monotonic)
    for _ in range(2):
        assert admission.logged_in(arrive(admission), "anna", "key") == ""
    clock.now = 10 * PATIENCE
    assert admission.full() == "all 2 connections are in use"
    guest, _ = admission.of("anna")[0]
    admission.left(guest, "anna")
    arrive(admission)


def test_a_user_has_so_many(clock: Clock) -> None:
    admission = Admission(100, 2, clock.monotonic)
    guests = [arrive(admission) for _ in range(3)]
    assert [admission.logged_in(guest, "anna", str(place))
            for place, guest in enumerate(guests[:2])] == ["", ""]
    assert "anna has 2" in admission.logged_in(guests[2], "anna", "2")
    admission.left(guests[2], "anna")
    assert admission.logged_in(arrive(admission), "berta", "3") == ""
    assert [fingerprint for _, fingerprint in admission.of("anna")] == ["0", "1"]
    for guest in guests:
        admission.left(guest, "anna")
    assert admission.of("anna") == []
    assert len(admission.everybody()) == 1


def test_a_flood_is_one_line_and_a_count(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    admission = Admission(2, 2, clock.monotonic)
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            admission.tell("full", "somebody was turned away")
        clock.now = LOG_PERIOD
        admission.tell("full", "somebody was turned away")
    assert len(caplog.records) == 2
    assert "and 999 more" in caplog.text
