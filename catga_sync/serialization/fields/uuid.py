"""UUIDs: text in JSON."""

from __future__ import annotations

import re
from uuid import UUID, SafeUUID

from catga_sync.serialization.fields.base import TextualField

__all__ = ["UUIDField"]

_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{12}")


def _read(text: str) -> UUID:
    if _UUID.fullmatch(text) is None:
        raise ValueError("not a UUID")
    # What UUID(text) does after it has checked the text again, in half the time.
    made = object.__new__(UUID)
    object.__setattr__(made, "int", int(text.replace("-", ""), 16))
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made


class UUIDField(TextualField):
    """A UUID, written with hyphens; 32 hex digits are read as well."""

    kind = "uuid"
    keyable = True
    round_trip_keys = True
    cls = UUID
    write = str
    read = staticmethod(_read)
    form = "the text of a UUID"
    expected = "a UUID such as '0b9f6a4e-1c1d-4b5e-9d2f-3a4b5c6d7e8f'"
    round_trips_if = TextualField.is_exact_class
    write_code = TextualField.write_exact_class
    read_code = TextualField.read_text
