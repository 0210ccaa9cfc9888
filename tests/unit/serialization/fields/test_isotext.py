# ruff: noqa: DTZ001, DTZ901  # a moment without a zone stays without one
"""Times and spans as text."""

from datetime import date, datetime, time, timedelta, timezone

import pytest

from catga_sync.serialization.fields import isotext
from tests.tables import every_row

UTC = timezone.utc


@every_row(
    ("text", "moment"),
    [
        ("2024-02-29T12:30:45", datetime(2024, 2, 29, 12, 30, 45)),
        ("2024-02-29T12:30", datetime(2024, 2, 29, 12, 30)),
        ("2024-02-29 12:30:45Z", datetime(2024, 2, 29, 12, 30, 45, tzinfo=UTC)),
        ("2024-02-29t12:30:45z", datetime(2024, 2, 29, 12, 30, 45, tzinfo=UTC)),
        ("2024-02-29T12:30:45.1", datetime(2024, 2, 29, 12, 30, 45, 100000)),
        ("2024-02-29T12:30:45.1234567Z", datetime(2024, 2, 29, 12, 30, 45, 123456, tzinfo=UTC)),
        ("2024-02-29T12:30:45+02:00", datetime(2024, 2, 29, 12, 30, 45, tzinfo=timezone(timedelta(hours=2)))),
        (
            "2024-02-29T12:30:45-0530",
            datetime(2024, 2, 29, 12, 30, 45, tzinfo=timezone(-timedelta(hours=5, minutes=30))),
        ),
        ("0001-01-01T00:00:00", datetime.min),
        ("9999-12-31T23:59:59.9999999", datetime.max),
    ],
)
def test_a_moment_is_read_with_any_fraction_and_zone(text, moment):
    found = isotext.parse_datetime(text)
    assert found == moment
    assert found.utcoffset() == moment.utcoffset()


@every_row(
    "text",
    [
        "",
        "2024-02-30T00:00:00",
        "2024-02-29",
        "2024-02-29T24:00:00",
        "2024-02-29T12:60:00",
        "2024-02-29T12:30:45.",
        "2024-02-29T12:30:45.12345678",
        "2024-02-29T12:30:45+24:00",
        "2024-02-29T12:30:45 Z",
        "2024-02-29T12:30:45\n",
        "2024-W09-4T12:30:45",
        "٢٠٢٤-02-29T12:30:45",
        "0000-01-01T00:00:00",
        "1709209845",
    ],
)
def test_what_is_no_moment_is_refused(text):
    with pytest.raises(ValueError):
        isotext.parse_datetime(text)


def test_a_date_is_read_from_a_moment_at_midnight_only():
    assert isotext.parse_date("2024-02-29") == date(2024, 2, 29)
    assert isotext.parse_date("2024-02-29T00:00:00Z") == date(2024, 2, 29)
    with pytest.raises(ValueError, match="time of day"):
        isotext.parse_date("2024-02-29T00:00:01")


def test_a_time_of_day_is_read():
    assert isotext.parse_time("12:30:45.1234567") == time(12, 30, 45, 123456)
    assert isotext.parse_time("12:30") == time(12, 30)
    with pytest.raises(ValueError):
        isotext.parse_time("12")


@every_row(
    ("span", "text"),
    [
        (timedelta(0), "00:00:00"),
        (timedelta(hours=1, minutes=2, seconds=3), "01:02:03"),
        (timedelta(days=1, hours=2, minutes=3, seconds=4, milliseconds=500), "1.02:03:04.5000000"),
        (-timedelta(seconds=1), "-00:00:01"),
        (-timedelta(days=1, microseconds=1), "-1.00:00:00.0000010"),
        (timedelta.max, "999999999.23:59:59.9999990"),
        (timedelta.min, "-999999999.00:00:00"),
    ],
)
def test_a_span_is_written_and_read_as_dotnet_does(span, text):
    assert isotext.format_timedelta(span) == text
    assert isotext.parse_timedelta(text) == span


def test_a_span_is_read_with_any_fraction():
    assert isotext.parse_timedelta("00:00:01.5") == timedelta(seconds=1.5)
    assert isotext.parse_timedelta("1:02:03") == timedelta(hours=1, minutes=2, seconds=3)
    assert isotext.parse_timedelta("00:00:00.1234567") == timedelta(microseconds=123456)


@every_row("text", ["", "1", "24:00:00", "00:60:00", "00:00:60", "00:00", "1 day, 0:00:00", "+00:00:01", "P1D"])
def test_what_is_no_span_is_refused(text):
    with pytest.raises(ValueError):
        isotext.parse_timedelta(text)
