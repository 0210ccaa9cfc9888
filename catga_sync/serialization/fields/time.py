"""Dates, times and spans: text in JSON, see ``isotext.py``."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from typing import Any, ClassVar

from marshmallow import ValidationError

from catga_sync.serialization.fielderrors import fail
from catga_sync.serialization.fields import isotext
from catga_sync.serialization.fields.base import StrictField
from catga_sync.serialization.roundtrip import Code

__all__ = ["DateField", "DateTimeField", "TimeDeltaField", "TimeField"]


def _zoned(value: datetime | time) -> str:
    """Return the ISO 8601 text, with the offset of the zone."""
    text = value.isoformat()
    if value.tzinfo is None:
        return text
    if value.utcoffset() is None:
        # A zone with summer time has no offset for a time of day alone: the text would be one without a zone.
        raise ValidationError(
            "has a time zone without a fixed offset, which would be lost; give a datetime.timezone, or no zone"
        )
    # .NET reads "+00:00" as local time, and "Z" as UTC.
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


def _certain_zone(cls: type, code: Code, v: str) -> str:
    # What is read has a datetime.timezone; of another zone only the offset comes back.
    zone = f"({v}.tzinfo is None or type({v}.tzinfo) is {code.name(timezone)})"
    return f"type({v}) is {code.name(cls)} and {zone}"


class _TextField(StrictField):
    """Base of the fields of this file: how their text is read."""

    parse: ClassVar[staticmethod[[str], Any]]
    #: What is expected, for an error: of a value that is no text, and of a text.
    form: ClassVar[str] = "ISO 8601 text"
    expected: ClassVar[str]

    def from_wire(self, raw: Any) -> Any:
        if type(raw) is not str:
            fail(self.form, raw)
        try:
            return self.parse(raw)
        except (ValueError, OverflowError) as exc:
            raise ValidationError(f"expected {self.expected}") from exc


class DateTimeField(_TextField):
    """A moment as ISO 8601, UTC as ``Z``; without a zone it stays without one."""

    kind = "datetime"
    keyable = True
    parse = staticmethod(isotext.parse_datetime)
    expected = "a date and time such as '2024-02-29T12:30:00Z'"

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, datetime):
            fail("datetime", value)
        return _zoned(value)

    def round_trips_if(self, code: Code, v: str) -> str:
        return _certain_zone(datetime, code, v)


class DateField(_TextField):
    """A day as ISO 8601. A datetime is refused: its time would be lost."""

    kind = "date"
    keyable = True
    round_trip_keys = True
    safe_hashes = True
    parse = staticmethod(isotext.parse_date)
    expected = "a date such as '2024-02-29'"

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, date) or isinstance(value, datetime):
            fail("date", value)
        return value.isoformat()

    def round_trips_if(self, code: Code, v: str) -> str:
        return f"type({v}) is {code.name(date)}"


class TimeField(_TextField):
    """A time of day as ISO 8601, with its offset from UTC if it has one."""

    kind = "time"
    parse = staticmethod(isotext.parse_time)
    expected = "a time such as '12:30:00'"

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, time):
            fail("time", value)
        return _zoned(value)

    def round_trips_if(self, code: Code, v: str) -> str:
        return _certain_zone(time, code, v)


class TimeDeltaField(_TextField):
    """A span as .NET's ``TimeSpan``."""

    kind = "timedelta"
    parse = staticmethod(isotext.parse_timedelta)
    expected = "a span of the form [-][d.]hh:mm:ss[.fffffff]"
    form = "text of the form [-][d.]hh:mm:ss[.fffffff]"

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, timedelta):
            fail("timedelta", value)
        return isotext.format_timedelta(value)

    def round_trips_if(self, code: Code, v: str) -> str:
        return f"type({v}) is {code.name(timedelta)}"
