"""Strict marshmallow fields for numbers: int, float and Decimal. The rules are those of the package.

A number with a fraction, or ``-0``, is parsed as a ``float``, or as a ``Decimal`` if the message has one anywhere.
Every field here accepts both.
"""

from __future__ import annotations

import re
import sys
from decimal import Decimal
from typing import Any

from marshmallow import ValidationError

from catga_sync.serialization.fielderrors import fail
from catga_sync.serialization.fields.base import StrictField
from catga_sync.serialization.reader import ReadCode
from catga_sync.serialization.roundtrip import Code
from catga_sync.serialization.writer import WriteCode

__all__ = ["LARGE", "DecimalField", "FloatField", "IntField", "check_digits", "finite"]

_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")
#: Digits of an int or a Decimal: Python's default limit for reading an int. A process may change that limit, but every
#: node has to read the numbers of the others, so this one is fixed.
MAX_DIGITS = 4300
TOO_LONG = f"has more than {MAX_DIGITS} digits"
_TOO_LARGE = 10**MAX_DIGITS
#: Digits that every process can read, whatever limit ``sys.set_int_max_str_digits`` has set.
_SAFE_DIGITS = sys.int_info.str_digits_check_threshold
#: An int between ``-LARGE`` and ``LARGE`` need not have its digits counted.
LARGE = 2**63


def finite(value: float | Decimal) -> float:
    """Return a number as a float. Raises ValidationError if it is NaN, infinite or too large."""
    try:
        number = float(value)
    except (OverflowError, ValueError) as exc:
        raise ValidationError("is too large for a float") from exc
    if number - number != 0.0:
        raise ValidationError("may not be NaN or Infinity")
    return number


def check_digits(number: int) -> int:
    """Return an int. Raises ValidationError if it has more than ``MAX_DIGITS`` digits."""
    if -_TOO_LARGE < number < _TOO_LARGE:
        return number
    raise ValidationError(TOO_LONG)


class IntField(StrictField):
    """An integer; bools are refused."""

    kind = "int"
    keyable = True
    round_trip_keys = True

    def to_wire(self, value: Any) -> Any:
        if type(value) is not int and (isinstance(value, bool) or not isinstance(value, int)):
            fail("int", value)
        return check_digits(value)

    def from_wire(self, raw: Any) -> Any:
        if type(raw) is not int:
            # "-0" is parsed as a number with a fraction to keep its sign; as an int it is 0.
            if raw == 0 and str(raw).startswith("-0"):
                return 0
            fail("int", 0.0 if type(raw) is Decimal else raw)  # an error says float, whichever way it was parsed
        return check_digits(raw)

    def key_to_wire(self, value: Any) -> str:
        return int.__repr__(self.to_wire(value))

    def key_from_wire(self, text: str) -> Any:
        if _INTEGER.fullmatch(text) is None:
            raise ValidationError("expected the text of an integer")
        if len(text.lstrip("-")) > MAX_DIGITS:
            raise ValidationError(TOO_LONG)
        return int(text)

    def round_trips_if(self, code: Code, v: str) -> str:
        return f"type({v}) is {code.name(int)} and {-LARGE} < {v} < {LARGE}"

    def write_code(self, code: WriteCode, v: str) -> str:
        return f"{code.name(int.__repr__)}({v}) if type({v}) is int and {-LARGE} < {v} < {LARGE} else unfit({v})"

    def read_code(self, code: ReadCode, v: str) -> str:
        return f"{v} if type({v}) is int and {-LARGE} < {v} < {LARGE} else unfit({v})"


class FloatField(StrictField):
    """A finite number; an integer is accepted."""

    kind = "float"
    signed_zeros = True

    def to_wire(self, value: Any) -> Any:
        if type(value) is not float and (isinstance(value, bool) or not isinstance(value, (int, float))):
            fail("float", value)
        return finite(value)

    def from_wire(self, raw: Any) -> Any:
        if type(raw) not in (float, int, Decimal):
            fail("float", raw)
        return finite(raw)

    def round_trips_if(self, code: Code, v: str) -> str:
        return f"type({v}) is {code.name(float)} and {v} - {v} == 0.0"

    def write_code(self, code: WriteCode, v: str) -> str:
        # An int is written as a float, as to_wire does.
        write = code.name(float.__repr__)
        number = f"{write}({v}) if type({v}) is float and {v} - {v} == 0.0"
        return f"{number} else {write}(float({v})) if type({v}) is int else unfit({v})"

    def read_code(self, code: ReadCode, v: str) -> str:
        return f"{v} if type({v}) is float and {v} - {v} == 0.0 else {code.name(self.load_value)}({v})"


class DecimalField(StrictField):
    """A finite decimal number with all its digits: a JSON number, read from a string as well."""

    kind = "decimal"
    keyable = True
    signed_zeros = True

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
        elif kind is float:  # only if another parser has read the JSON
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

    def reads_decimals(self) -> bool:
        return True

    def round_trips_if(self, code: Code, v: str) -> str:
        digits = f"len({v}.as_tuple().digits) < {_SAFE_DIGITS}"
        return f"type({v}) is {code.name(Decimal)} and {v}.is_finite() and {digits}"

    def write_code(self, code: WriteCode, v: str) -> str:
        return f"{code.name(_plain_text)}({v}) if type({v}) is {code.name(Decimal)} else unfit({v})"

    def read_code(self, code: ReadCode, v: str) -> str:
        # The text has a sign, a point and an exponent besides the digits.
        few = f"{v}.is_finite() and len({code.name(Decimal.__str__)}({v})) <= {MAX_DIGITS}"
        return f"{v} if type({v}) is {code.name(Decimal)} and {few} else {code.name(self.load_value)}({v})"


def _plain_text(number: Decimal) -> str:
    text = str(number)
    if number.is_finite() and len(text) <= MAX_DIGITS:
        return text
    return str(_checked(number))


def _checked(number: Decimal) -> Decimal:
    if not number.is_finite():
        raise ValidationError("may not be NaN or Infinity")
    if len(number.as_tuple().digits) > MAX_DIGITS:
        raise ValidationError(TOO_LONG)
    return number
