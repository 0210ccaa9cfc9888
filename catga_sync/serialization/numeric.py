"""Strict marshmallow fields for numbers: int, float and Decimal. The rules are those of ``fields.py``.

A number with a fraction is read as a ``float``, or as a ``Decimal`` where the message has one anywhere. Every field
here takes both, so it does not matter which.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from marshmallow import ValidationError

from catga_sync.serialization.fields import StrictField, fail, finite

__all__ = ["DecimalField", "FloatField", "IntField"]

_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")


class IntField(StrictField):
    """An integer, and no bool."""

    kind = "int"
    keyable = True

    def to_wire(self, value: Any) -> Any:
        if type(value) is not int and (isinstance(value, bool) or not isinstance(value, int)):
            fail("int", value)
        return value

    def from_wire(self, raw: Any) -> Any:
        if type(raw) is not int:
            fail("int", _as_float(raw))
        return raw

    def key_to_wire(self, value: Any) -> str:
        try:
            return int.__repr__(self.to_wire(value))
        except ValueError as exc:  # thousands of digits
            raise ValidationError("has too many digits") from exc

    def key_from_wire(self, text: str) -> Any:
        if _INTEGER.fullmatch(text) is None:
            raise ValidationError("expected the text of an integer")
        try:
            return int(text)
        except ValueError as exc:
            raise ValidationError("has too many digits") from exc


def _as_float(raw: Any) -> Any:
    # What to call it in an error: on the wire a float and a Decimal look the same.
    return 0.0 if type(raw) is Decimal else raw


class FloatField(StrictField):
    """A finite number; an integer will do."""

    kind = "float"

    def to_wire(self, value: Any) -> Any:
        if type(value) is not float and (isinstance(value, bool) or not isinstance(value, (int, float))):
            fail("float", value)
        return finite(value)

    def from_wire(self, raw: Any) -> Any:
        if type(raw) not in (float, int, Decimal):
            fail("float", raw)
        return finite(raw)


class DecimalField(StrictField):
    """A finite decimal number with all its digits: a JSON number, read from a string too."""

    kind = "decimal"
    keyable = True

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, Decimal):
            fail("Decimal", value)
        if not value.is_finite():
            raise ValidationError("may not be NaN or Infinity")
        return value

    def from_wire(self, raw: Any) -> Any:
        kind = type(raw)
        if kind is Decimal:
            number: Decimal = raw
        elif kind is int:
            number = Decimal(raw)
        elif kind is float:  # only where somebody else has parsed the JSON
            number = Decimal(repr(raw))
        elif kind is str:
            return self.key_from_wire(raw)
        else:
            fail("a decimal number", raw)
        if not number.is_finite():
            raise ValidationError("may not be NaN or Infinity")
        return number

    def key_from_wire(self, text: str) -> Any:
        if _NUMBER.fullmatch(text) is None:
            raise ValidationError("expected the text of a decimal number")
        try:
            number = Decimal(text)
        except ArithmeticError as exc:
            raise ValidationError("has too large an exponent") from exc
        if not number.is_finite():
            raise ValidationError("has too large an exponent")
        return number
