"""What is easily changed of a time on the way: its zone. It is kept, or refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from catga_sync.errors import RegistrationError
from tests.tables import every_row
from tests.unit.serialization.codecs import codec_of, refusals

UTC = timezone.utc
BERLIN = ZoneInfo("Europe/Berlin")


@every_row(
    ("annotation", "value", "text"),
    [
        (datetime, datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00Z"),
        (datetime, datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC), "2026-01-31T12:00:00.000005Z"),
        (datetime, datetime(2026, 1, 31, 12, tzinfo=ZoneInfo("Europe/London")), "2026-01-31T12:00:00Z"),
        (datetime, datetime(2026, 7, 31, 12, tzinfo=ZoneInfo("Europe/London")), "2026-07-31T12:00:00+01:00"),
        (datetime, datetime(2026, 1, 31, 12), "2026-01-31T12:00:00"),  # noqa: DTZ001
        (datetime, datetime(2026, 1, 31, tzinfo=timezone(timedelta(seconds=60))), "2026-01-31T00:00:00+00:01"),
        (datetime, datetime(2026, 1, 31, tzinfo=timezone(timedelta(seconds=1))), "2026-01-31T00:00:00+00:00:01"),
        (datetime, datetime(2026, 1, 31, tzinfo=timezone(timedelta(hours=-5))), "2026-01-31T00:00:00-05:00"),
        (time, time(12, tzinfo=UTC), "12:00:00Z"),
        (time, time(12, tzinfo=timezone(timedelta(hours=2))), "12:00:00+02:00"),
        (time, time(12), "12:00:00"),
    ],
)
def test_utc_is_written_as_z_and_every_other_zone_as_its_offset(annotation: Any, value: Any, text: str) -> None:
    codec = codec_of(annotation)
    assert json.loads(codec.encode(value)) == text
    read = codec.decode(codec.encode(value))
    assert (read, read.utcoffset()) == (value, value.utcoffset())


@every_row(
    ("annotation", "value", "written"),
    [
        (list[datetime], [datetime(2026, 1, 31, tzinfo=UTC)], ["2026-01-31T00:00:00Z"]),
        (dict[datetime, int], {datetime(2026, 1, 31, tzinfo=UTC): 1}, {"2026-01-31T00:00:00Z": 1}),
        (dict[str, time], {"a": time(1, tzinfo=UTC)}, {"a": "01:00:00Z"}),
        (tuple[time, int], (time(1, tzinfo=UTC), 1), ["01:00:00Z", 1]),
        (time | None, time(1, tzinfo=UTC), "01:00:00Z"),
    ],
)
def test_a_zone_is_kept_inside_of_containers_and_as_a_key(annotation: Any, value: Any, written: Any) -> None:
    codec = codec_of(annotation)
    assert json.loads(codec.encode(value)) == written
    assert codec.decode(codec.encode(value)) == value


class Nowhere(tzinfo):
    """A zone that does not know its offset."""

    def utcoffset(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> str:
        return "nowhere"

    def dst(self, moment: datetime | None) -> None:
        return None


@dataclass
class Shift:
    starts: time


@every_row(
    ("annotation", "value", "place"),
    [
        (time, time(12, tzinfo=BERLIN), ""),
        (list[time], [time(12), time(12, tzinfo=BERLIN)], "[1]"),
        (dict[str, time], {"a": time(12, tzinfo=BERLIN)}, "['a']"),
        (Shift, Shift(time(12, tzinfo=BERLIN)), ".starts"),
        (datetime, datetime(2026, 1, 31, tzinfo=Nowhere()), ""),
        (dict[datetime, int], {datetime(2026, 1, 31, tzinfo=Nowhere()): 1}, "[datetime.datetime("),
    ],
)
def test_a_zone_that_would_be_lost_is_refused_here_and_there(annotation: Any, value: Any, place: str) -> None:
    codec = codec_of(annotation)
    here, there = refusals(codec, value)
    assert here == there
    assert there.startswith(f"{codec.label}{place}")
    assert "has a time zone without a fixed offset, which would be lost; give a datetime.timezone" in there


def test_a_time_of_day_is_no_key() -> None:
    with pytest.raises(RegistrationError, match=r"a dict cannot have keys of datetime\.time"):
        codec_of(dict[time, str])
