"""Strict marshmallow fields for what is text in JSON: bytes, times and UUIDs. The rules are those of ``fields.py``."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from marshmallow import ValidationError

from catga_sync.serialization import isotext
from catga_sync.serialization.fields import StrictField, fail

__all__ = ["BytesField", "DateField", "DateTimeField", "TimeDeltaField", "TimeField", "UUIDField"]

_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{12}")


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


class BytesField(StrictField):
    """Bytes as base64."""

    kind = "bytes"
    safe_hashes = True

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, bytes):
            fail("bytes", value)
        return base64.b64encode(value).decode("ascii")

    def from_wire(self, raw: Any) -> Any:
        if type(raw) is not str:
            fail("base64 text", raw)
        try:
            return base64.b64decode(raw.encode("ascii"), validate=True)
        except (binascii.Error, ValueError) as exc:
            raise ValidationError("expected base64 text") from exc


class DateTimeField(StrictField):
    """A moment as ISO 8601, UTC as ``Z``; without a zone it stays without one."""

    kind = "datetime"
    keyable = True

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, datetime):
            fail("datetime", value)
        return _zoned(value)

    def from_wire(self, raw: Any) -> Any:
        if type(raw) is not str:
            fail("ISO 8601 text", raw)
        try:
            return isotext.parse_datetime(raw)
        except (ValueError, OverflowError) as exc:
            raise ValidationError("expected a date and time such as '2024-02-29T12:30:00Z'") from exc


class DateField(StrictField):
    """A day as ISO 8601. A datetime is refused: its time would be lost."""

    kind = "date"
    keyable = True
    safe_hashes = True

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, date) or isinstance(value, datetime):
            fail("date", value)
        return value.isoformat()

    def from_wire(self, raw: Any) -> Any:
        if type(raw) is not str:
            fail("ISO 8601 text", raw)
        try:
            return isotext.parse_date(raw)
        except (ValueError, OverflowError) as exc:
            raise ValidationError("expected a date such as '2024-02-29'") from exc


class TimeField(StrictField):
    """A time of day as ISO 8601, with its offset from UTC if it has one."""

    kind = "time"

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, time):
            fail("time", value)
        return _zoned(value)

    def from_wire(self, raw: Any) -> Any:
        if type(raw) is not str:
            fail("ISO 8601 text", raw)
        try:
            return isotext.parse_time(raw)
        except (ValueError, OverflowError) as exc:
            raise ValidationError("expected a time such as '12:30:00'") from exc


class TimeDeltaField(StrictField):
    """A span as .NET's ``TimeSpan``."""

    kind = "timedelta"

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, timedelta):
            fail("timedelta", value)
        return isotext.format_timedelta(value)

    def from_wire(self, raw: Any) -> Any:
        if type(raw) is not str:
            fail("text of the form [-][d.]hh:mm:ss[.fffffff]", raw)
        try:
            return isotext.parse_timedelta(raw)
        except (ValueError, OverflowError) as exc:
            raise ValidationError("expected a span of the form [-][d.]hh:mm:ss[.fffffff]") from exc


class UUIDField(StrictField):
    """Hyphenated; 32 hex digits are read too."""

    kind = "uuid"
    keyable = True

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, UUID):
            fail("UUID", value)
        return str(value)

    def from_wire(self, raw: Any) -> Any:
        if type(raw) is not str:
            fail("the text of a UUID", raw)
        if _UUID.fullmatch(raw) is None:
            raise ValidationError("expected a UUID such as '0b9f6a4e-1c1d-4b5e-9d2f-3a4b5c6d7e8f'")
        return UUID(raw)
