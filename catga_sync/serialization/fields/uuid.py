"""UUIDs: text in JSON."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from marshmallow import ValidationError

from catga_sync.serialization.fielderrors import fail
from catga_sync.serialization.fields.base import StrictField
from catga_sync.serialization.roundtrip import Code

__all__ = ["UUIDField"]

_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{12}")


class UUIDField(StrictField):
    """A UUID, hyphenated; 32 hex digits are read too."""

    kind = "uuid"
    keyable = True
    round_trip_keys = True

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

    def round_trips_if(self, code: Code, v: str) -> str:
        return f"type({v}) is {code.name(UUID)}"
