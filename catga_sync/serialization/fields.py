"""The base of the strict marshmallow fields, and those for text, bool, nothing and anything.

The others: ``numeric.py``, ``textual.py`` (bytes, times, UUIDs), ``choices.py`` (Enum, Literal), ``containers.py``.

Rules of this file:
1. A field converts nothing that is not its type: ``"1"`` is no int, ``1`` no str, ``True`` neither. Writing is as
   strict as reading, so what cannot be read is not sent.
2. ``to_wire`` and ``from_wire`` do the work for a value that is not None; marshmallow's own machinery and the codec
   both end there, so the two cannot differ.
3. An error says what was expected and which type was found, never the value.

Fields are immutable once they are bound, and thread-safe.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from marshmallow import ValidationError, fields, missing

if TYPE_CHECKING:
    _Field = fields.Field[Any]
else:
    _Field = fields.Field  # not generic in marshmallow 3

__all__ = [
    "MAX_DIGITS",
    "TOO_LONG",
    "AnyField",
    "BoolField",
    "NoneField",
    "StrField",
    "StrictField",
    "check_digits",
    "check_text",
    "fail",
    "finite",
    "type_name",
]


def type_name(value: object) -> str:
    """Return what to call the type of a value in an error."""
    return "null" if value is None else type(value).__name__


def fail(expected: str, value: object) -> NoReturn:
    """Raise the error for a value of the wrong type."""
    raise ValidationError(f"expected {expected}, not {type_name(value)}")


_MESSAGES = {"required": "is missing", "null": "may not be null"}


class StrictField(_Field):
    """Base of the fields that are derived from annotations. Immutable once bound, thread-safe."""

    #: What the value is on the wire, for the fingerprint of a contract.
    kind: ClassVar[str] = ""
    #: Whether a key of a dict can be of this type.
    keyable: ClassVar[bool] = False
    #: Whether nobody outside can choose values that collide in a set: their hashes have a secret, or they are few.
    safe_hashes: ClassVar[bool] = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(error_messages=dict(_MESSAGES), **kwargs)

    def to_wire(self, value: Any, /) -> Any:
        """Return plain JSON data for a value that is not None. Raises ValidationError."""
        raise NotImplementedError

    def from_wire(self, raw: Any, /) -> Any:
        """Return the value for plain JSON data that is not None. Raises ValidationError."""
        raise NotImplementedError

    def key_to_wire(self, value: Any) -> str:
        """Return the text of a key of a dict. Only where ``keyable``."""
        return str(self.to_wire(value))

    def key_from_wire(self, text: str) -> Any:
        """Return the key of a dict for its text. Only where ``keyable``."""
        return self.from_wire(text)

    def inner(self) -> tuple[StrictField, ...]:
        """Return the fields of what is inside, if this is a container."""
        return ()

    def describe(self) -> list[Any]:
        """Return the contract of this field without that of ``inner``: plain data, the same in every process."""
        return [self.kind]

    def dump_value(self, value: Any) -> Any:
        """Return plain JSON data for any value, None included."""
        if value is None:
            if self.allow_none:
                return None
            raise ValidationError("may not be None; annotate it as Optional if it may")
        return self.to_wire(value)

    def load_value(self, raw: Any) -> Any:
        """Return the value for any plain JSON data, null included."""
        if raw is None:
            if self.allow_none:
                return None
            raise ValidationError("may not be null")
        return self.from_wire(raw)

    # -- what marshmallow calls ---------------------------------------------------------------------------------

    def serialize(self, attr: str, obj: Any, accessor: Any = None, **kwargs: Any) -> Any:
        """Return plain JSON data for an attribute of an object; an error names the attribute."""
        try:
            value = self.get_value(obj, attr, accessor=accessor)
            if value is missing:
                raise ValidationError("is missing")
            return self.dump_value(value)
        except ValidationError as exc:
            raise ValidationError({attr: exc.messages}) from exc

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return self.dump_value(value)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        return self.from_wire(value)


class StrField(StrictField):
    """Text. Half of a surrogate pair is refused: UTF-8 cannot carry it."""

    kind = "str"
    keyable = True
    safe_hashes = True

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


def check_text(text: str) -> None:
    """Refuse a text that UTF-8 cannot carry."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValidationError("has half of a surrogate pair in it, which UTF-8 cannot carry") from None


class BoolField(StrictField):
    """True or False, and no number."""

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


def finite(value: float | Decimal) -> float:
    """Return a number as a float. Raises ValidationError where it is NaN, infinite or too large."""
    try:
        number = float(value)
    except (OverflowError, ValueError) as exc:
        raise ValidationError("is too large for a float") from exc
    if number - number != 0.0:
        raise ValidationError("may not be NaN or Infinity")
    return number


#: Digits of an int or a Decimal. It is Python's own limit for reading an int, which a process may change: a number that
#: one node writes has to be read by the others.
MAX_DIGITS = 4300
TOO_LONG = f"has more than {MAX_DIGITS} digits"
_TOO_LARGE = 10**MAX_DIGITS


def check_digits(number: int) -> int:
    """Return an int. Raises ValidationError where it has more than ``MAX_DIGITS`` digits."""
    if -_TOO_LARGE < number < _TOO_LARGE:
        return number
    raise ValidationError(TOO_LONG)


class NoneField(StrictField):
    """Nothing: the answer of a request that has none."""

    kind = "none"
    safe_hashes = True

    def to_wire(self, value: Any) -> Any:
        fail("None", value)

    def from_wire(self, raw: Any) -> Any:
        fail("null", raw)


class AnyField(StrictField):
    """Plain JSON data: None, bool, int, float, str, and lists, tuples and dicts (keys: str) of them."""

    kind = "any"

    def to_wire(self, value: Any) -> Any:
        kind = type(value)
        if kind is str:
            if not value.isascii():
                check_text(value)
            return value
        if kind is int:
            return check_digits(value)
        if kind is bool or value is None:
            return value
        if isinstance(value, float):
            return finite(value)
        if isinstance(value, dict):
            return {self._key(key): self.to_wire(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.to_wire(item) for item in value]
        if isinstance(value, int):
            return check_digits(value)
        if isinstance(value, str):
            return value
        raise ValidationError(
            f"expected plain JSON data, not {type_name(value)}; annotate it with its own type and not as Any"
        )

    def from_wire(self, raw: Any) -> Any:
        # What is as it should be is not copied: many small objects are most of what a large request takes of memory.
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
