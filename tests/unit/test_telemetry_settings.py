"""What [telemetry] may say, and times as people write them."""

from __future__ import annotations

import pytest

from zerostor.core.errors import BadRequest, SetupError
from zerostor.core.setting_types import Seconds, Size
from zerostor.core.settings import TelemetrySettings
from zerostor.core.spread import SpreadRules, Stream
from zerostor.core.telemetry import moment
from zerostor.core.telemetry_settings import check_telemetry, rules_of


def test_the_defaults_are_fine_and_are_those_of_the_engine():
    check_telemetry(TelemetrySettings())
    assert rules_of(TelemetrySettings()) == SpreadRules()


@pytest.mark.parametrize(("settings", "reason"), [
    (TelemetrySettings(copies=0), "copies is 0"),
    (TelemetrySettings(copies=17), "copies is 17"),
    (TelemetrySettings(local="until_spread"), "did you mean until-spread"),
    (TelemetrySettings(local="until-spread", copies=1), "one copy of each chunk"),
    (TelemetrySettings(text_chunk=Size(100)), "text_chunk is 100"),
    (TelemetrySettings(chunk=Size(65_393)), "chunk is 65393"),
    (TelemetrySettings(grace=Seconds(0.0)), "grace is 0"),
    (TelemetrySettings(check_every=Seconds(0.0)), "check_every is 0"),
    (TelemetrySettings(keep=Seconds(-1.0)), "keep may not be negative"),
    (TelemetrySettings(rewrites_per_day=0), "rewrites_per_day is 1 or more"),
    (TelemetrySettings(console="here"), "here"),
])
def test_what_cannot_work_is_refused(settings, reason):
    with pytest.raises(SetupError, match=reason):
        check_telemetry(settings)


@pytest.mark.parametrize(("text", "at"), [
    ("0", 0), ("1772366400", 1_772_366_400_000), ("1772366400.25", 1_772_366_400_250),
    ("2026-03-01T12:00:00Z", 1_772_366_400_000), ("2026-03-01T12:00:00", 1_772_366_400_000),
    ("2026-03-01T13:00:00+01:00", 1_772_366_400_000), ("2026-03-01", 1_772_323_200_000),
    ("2026-03-01T13:00:00.000 01:00", 1_772_366_400_000), ("2026-03-01 12:00", 1_772_366_400_000),
    ("1901-01-01", 0)])
def test_times(text, at):
    assert moment("from", text) == at


@pytest.mark.parametrize("text", ["", "now", "-1", "1e9", "2026-13-01", "9" * 5000, "\u0661",
                                  "2026-03-01T12:00:00." + "0" * 20 + "and more"])
def test_what_is_no_time(text):
    with pytest.raises(BadRequest, match="from is a time"):
        moment("from", text)


def test_ids_are_of_one_stream_and_its_generation():
    stream = Stream("shed", "00" * 8, True, 5120)
    others = (Stream("yard", "00" * 8, True, 5120), Stream("shed", "01" * 8, True, 5120))
    ids = {one.chunk_id(number, content * 32) for one in (stream, *others) for number in range(3)
           for content in (b"a", b"b")}
    assert len(ids) == 18 and all(len(one) == 16 for one in ids)
