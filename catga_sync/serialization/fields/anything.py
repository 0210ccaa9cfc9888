"""Plain JSON data of any kind, and None."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

from marshmallow import ValidationError

from catga_sync.serialization.fielderrors import fail, type_name
from catga_sync.serialization.fields.base import StrictField
from catga_sync.serialization.fields.number import LARGE, check_digits, finite
from catga_sync.serialization.fields.text import check_text, is_encodable
from catga_sync.serialization.reader import CountCode, ReadCode
from catga_sync.serialization.roundtrip import Code
from catga_sync.serialization.writer import WriteCode

__all__ = ["AnyField", "NoneField", "plain_round_trips"]

#: Levels of plain data that are tested. Deeper data goes through the codec, which has a limit.
_DEPTH = 16


class NoneField(StrictField):
    """None: the response of a request without a response."""

    kind = "none"
    safe_hashes = True

    def to_wire(self, value: Any) -> Any:
        fail("None", value)

    def from_wire(self, raw: Any) -> Any:
        fail("null", raw)

    def write_code(self, code: WriteCode, v: str) -> str:
        return f"unfit({v})"

    def read_code(self, code: ReadCode, v: str) -> str:
        return f"unfit({v})"


class AnyField(StrictField):
    """Plain JSON data: None, bool, int, float, str, and lists, tuples and dicts (keys: str) of them."""

    kind = "any"
    signed_zeros = True

    def to_wire(self, value: Any) -> Any:
        if isinstance(value, str):
            if not value.isascii():
                check_text(value)
            return value
        if value is None or value is True or value is False:
            return value
        if isinstance(value, int):
            return check_digits(value)
        if isinstance(value, float):
            return finite(value)
        if isinstance(value, dict):
            return {self._key(key): self.to_wire(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.to_wire(item) for item in value]
        raise ValidationError(
            f"expected plain JSON data, not {type_name(value)}; annotate it with its own type instead of Any"
        )

    def from_wire(self, raw: Any) -> Any:
        # Data that needs no change is not copied: most of the memory of a large request are many small objects.
        kind = type(raw)
        if kind is Decimal:
            return finite(raw)
        if kind is dict or kind is list:
            out = raw
            for place, item in raw.items() if kind is dict else enumerate(raw):
                if kind is dict:
                    self._key(place)
                value = self.from_wire(item)
                if value is not item:
                    if out is raw:
                        out = raw.copy()
                    out[place] = value
            return out
        return self.to_wire(raw)

    def _key(self, key: Any) -> str:
        if not isinstance(key, str):
            fail("str as the key of a dict", key)
        if not key.isascii():
            check_text(key)
        return key

    def round_trips_if(self, code: Code, v: str) -> str:
        return f"{code.name(plain_round_trips)}({v})"

    def write_code(self, code: WriteCode, v: str) -> str:
        return f"{code.name(_encode)}({v}) if {code.name(plain_round_trips)}({v}) else unfit({v})"

    def read_code(self, code: ReadCode, v: str) -> str:
        return f"{code.name(self.load_value)}({v})"

    def count_code(self, code: CountCode, v: str) -> str:
        return f"{code.name(_count_properties)}({v})"


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _count_properties(data: Any) -> int:
    kind = type(data)
    if kind is dict:
        return len(data) + sum(map(_count_properties, data.values()))
    return sum(map(_count_properties, data)) if kind is list else 0


def plain_round_trips(value: Any, depth: int = 0) -> bool:
    """Return whether plain JSON data would come back from JSON equal, annotated as ``Any``."""
    kind = type(value)
    if kind is str:
        return is_encodable(value)
    if kind is int:
        return bool(-LARGE < value < LARGE)
    if kind is float:
        return math.isfinite(value)
    if value is None or kind is bool:
        return True
    if depth == _DEPTH:
        return False
    if kind is list:
        return all(plain_round_trips(item, depth + 1) for item in value)
    return kind is dict and all(
        type(key) is str and is_encodable(key) and plain_round_trips(item, depth + 1) for key, item in value.items()
    )
