"""Strict marshmallow fields for numbers: int, float and Decimal. The rules are those of ``fields.py``.

A number with a fraction, or ``-0``, is read as a ``float``, or as a ``Decimal`` where the message has one anywhere.
Every field here takes both, so it does not matter which.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from marshmallow import ValidationError

from catga_sync.serialization.fields import MAX_DIGITS, TOO_LONG, StrictField, check_digits, fail, finite

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
        return check_digits(value)

    def from_wire(self, raw: Any) -> Any:
        if type(raw) is not int:
            # "-0" has been read as a number with a fraction, for its sign; as an int it is a zero like any other.
            if raw == 0 and str(raw).startswith("-0"):
                return 0
            fail("int", _as_float(raw))
        return check_digits(raw)

    def key_to_wire(self, value: Any) -> str:
        return int.__repr__(self.to_wire(value))

    def key_from_wire(self, text: str) -> Any:
        if _INTEGER.fullmatch(text) is None:
            raise ValidationError("expected the text of an integer")
        if len(text.lstrip("-")) > MAX_DIGITS:
            raise ValidationError(TOO_LONG)
        return int(text)


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
        return _checked(value)

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
        return _checked(number)

    def key_from_wire(self, text: str) -> Any:
        if _NUMBER.fullmatch(text) is None:
            raise ValidationError("expected the text of a decimal number")
        try:
            number = Decimal(text)
        except ArithmeticError as exc:
            raise ValidationError("has too large an exponent") from exc
        if not number.is_finite():
            raise ValidationError("has too large an exponent")
        return _checked(number)


def _checked(number: Decimal) -> Decimal:
    if not number.is_finite():
        raise ValidationError("may not be NaN or Infinity")
    if len(number.as_tuple().digits) > MAX_DIGITS:
        raise ValidationError(TOO_LONG)
    return number
