"""Text."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError

from catga_sync.serialization.fielderrors import fail
from catga_sync.serialization.fields.base import StrictField
from catga_sync.serialization.roundtrip import Code

__all__ = ["StrField", "carried", "check_text"]


def carried(text: str) -> bool:
    """Return whether UTF-8 can carry a text."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def check_text(text: str) -> None:
    """Refuse a text that UTF-8 cannot carry."""
    if not carried(text):
        raise ValidationError("has half of a surrogate pair in it, which UTF-8 cannot carry")


class StrField(StrictField):
    """Text. Half of a surrogate pair is refused: UTF-8 cannot carry it."""

    kind = "str"
    keyable = True
    safe_hashes = True
    round_trip_keys = True

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, str):
            fail("str", value)
        if not value.isascii():
            check_text(value)
        return value

    from_wire = to_wire

    def key_to_wire(self, value: Any) -> str:
        # Not str(value): that of a member of a ``class Color(str, Enum)`` is "Color.RED".
        text: str = self.to_wire(value)
        return text

    def round_trips_if(self, code: Code, v: str) -> str:
        return f"type({v}) is {code.name(str)} and ({v}.isascii() or {code.name(carried)}({v}))"
