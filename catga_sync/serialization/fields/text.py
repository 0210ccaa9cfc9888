"""Text."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError

from catga_sync.serialization.fielderrors import fail
from catga_sync.serialization.fields.base import StrictField
from catga_sync.serialization.reader import ReadCode
from catga_sync.serialization.roundtrip import Code
from catga_sync.serialization.writer import WriteCode

__all__ = ["StrField", "is_encodable", "check_text"]


def is_encodable(text: str) -> bool:
    """Return whether UTF-8 can encode a text."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def check_text(text: str) -> None:
    """Refuse a text that UTF-8 cannot encode."""
    if not is_encodable(text):
        raise ValidationError("contains half of a surrogate pair, which UTF-8 cannot encode")


class StrField(StrictField):
    """Text. Half of a surrogate pair is refused, as UTF-8 cannot encode it."""

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
        # Not str(value), which is "Color.RED" for a member of a ``class Color(str, Enum)``.
        text: str = self.to_wire(value)
        return text

    def round_trips_if(self, code: Code, v: str) -> str:
        return f"type({v}) is {code.name(str)} and ({v}.isascii() or {code.name(is_encodable)}({v}))"

    def write_code(self, code: WriteCode, v: str) -> str:
        # It raises for what is no text. Half of a surrogate pair is found when the whole text is encoded.
        return f"quote({v})"

    def read_code(self, code: ReadCode, v: str) -> str:
        return f"{v} if type({v}) is str else unfit({v})"
