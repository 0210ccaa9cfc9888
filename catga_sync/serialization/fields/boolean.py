"""True and False."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError

from catga_sync.serialization.fielderrors import fail
from catga_sync.serialization.fields.base import StrictField
from catga_sync.serialization.reader import ReadCode
from catga_sync.serialization.roundtrip import Code
from catga_sync.serialization.writer import WriteCode

__all__ = ["BoolField"]


class BoolField(StrictField):
    """True or False; numbers are refused."""

    kind = "bool"
    keyable = True
    safe_hashes = True

    def to_wire(self, value: Any) -> Any:
        if value is not True and value is not False:
            fail("bool", value)
        return value

    from_wire = to_wire

    def key_to_wire(self, value: Any) -> str:
        return "true" if self.to_wire(value) else "false"

    def key_from_wire(self, text: str) -> Any:
        lower = text.lower()
        if lower not in ("true", "false"):
            raise ValidationError("expected 'true' or 'false'")
        return lower == "true"

    def round_trips_if(self, code: Code, v: str) -> str:
        return f"{v} is True or {v} is False"

    def write_code(self, code: WriteCode, v: str) -> str:
        return f"'true' if {v} is True else 'false' if {v} is False else unfit({v})"

    def read_code(self, code: ReadCode, v: str) -> str:
        return f"{v} if {v} is True or {v} is False else unfit({v})"
