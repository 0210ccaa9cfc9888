"""UUIDs: text in JSON."""

from __future__ import annotations

import re
from uuid import UUID

from catga_sync.serialization.fields.base import TextualField

__all__ = ["UUIDField"]

_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{12}")


def _read(text: str) -> UUID:
    if _UUID.fullmatch(text) is None:
        raise ValueError("not a UUID")
    return UUID(text)


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
