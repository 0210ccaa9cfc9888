"""Dates, times and spans: text in JSON, see ``isotext.py``."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from typing import Any

from marshmallow import ValidationError

from catga_sync.serialization.fielderrors import fail
from catga_sync.serialization.fields import isotext
from catga_sync.serialization.fields.base import TextualField
from catga_sync.serialization.roundtrip import Code
from catga_sync.serialization.writer import WriteCode

__all__ = ["DateField", "DateTimeField", "TimeDeltaField", "TimeField"]

_ISO_TEXT = "ISO 8601 text"


def _write_zoned(value: datetime | time) -> str:
    """Return the ISO 8601 text, with the offset of the zone."""
    text = value.isoformat()
    if value.tzinfo is None:
        return text
    if value.tzinfo is timezone.utc:
        return f"{text[:-6]}Z"
    if value.utcoffset() is None:
        # A zone with summer time has no offset for a time of day alone, and the text would have no zone.
        raise ValidationError(
            "has a time zone without a fixed offset, which would be lost; give a datetime.timezone, or no zone"
        )
    # .NET reads "+00:00" as local time, and "Z" as UTC.
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


class _ZonedField(TextualField):
    """Base of the kinds that may have a time zone."""

    write = staticmethod(_write_zoned)
    form = _ISO_TEXT

    def has_fixed_zone(self, code: Code, v: str) -> str:
        """Return the test of the class and the zone; see ``round_trips_if``."""
        # The zone of a value that was read is a datetime.timezone. Only the offset of another zone would come back.
        zone = f"({v}.tzinfo is None or type({v}.tzinfo) is {code.name(timezone)})"
        return f"{self.is_exact_class(code, v)} and {zone}"

    def write_exact_zone(self, code: WriteCode, v: str) -> str:
        """Return the expression for values whose zone is not the application's; see ``write_code``."""
        from zoneinfo import ZoneInfo  # here: it brings sysconfig along, and few apps need it

        # The types of zones that run no code of the application; without a zone it is None.
        zones = frozenset((type(None), timezone, ZoneInfo))
        exact = f"type({v}) is {code.name(self.cls)} and type({v}.tzinfo) in {code.name(zones)}"
        return f"""'"' + {code.name(self.write)}({v}) + '"' if {exact} else unfit({v})"""


class DateTimeField(_ZonedField):
    """A moment as ISO 8601, UTC as ``Z``; a moment without a zone is read without one."""

    kind = "datetime"
    keyable = True
    cls = datetime
    read = staticmethod(isotext.parse_datetime)
    expected = "a date and time such as '2024-02-29T12:30:00Z'"
    round_trips_if = _ZonedField.has_fixed_zone
    write_code = _ZonedField.write_exact_zone
    read_code = TextualField.read_text


class TimeField(_ZonedField):
    """A time of day as ISO 8601, with its offset from UTC if it has one."""

    kind = "time"
    cls = time
    read = staticmethod(isotext.parse_time)
    expected = "a time such as '12:30:00'"
    round_trips_if = _ZonedField.has_fixed_zone
    write_code = _ZonedField.write_exact_zone
    read_code = TextualField.read_text


class DateField(TextualField):
    """A day as ISO 8601. A datetime is refused: its time would be lost."""

    kind = "date"
    keyable = True
    round_trip_keys = True
    safe_hashes = True
    cls = date
    write = staticmethod(date.isoformat)
    read = staticmethod(isotext.parse_date)
    form = _ISO_TEXT
    expected = "a date such as '2024-02-29'"
    round_trips_if = TextualField.is_exact_class
    write_code = TextualField.write_exact_class
    read_code = TextualField.read_text

    def to_wire(self, value: Any) -> Any:
        if isinstance(value, datetime):
            fail("date", value)
        return super().to_wire(value)


class TimeDeltaField(TextualField):
    """A span as .NET's ``TimeSpan``."""

    kind = "timedelta"
    cls = timedelta
    write = staticmethod(isotext.format_timedelta)
    read = staticmethod(isotext.parse_timedelta)
    form = "text of the form [-][d.]hh:mm:ss[.fffffff]"
    expected = "a span of the form [-][d.]hh:mm:ss[.fffffff]"
    round_trips_if = TextualField.is_exact_class
    write_code = TextualField.write_exact_class
    read_code = TextualField.read_text
