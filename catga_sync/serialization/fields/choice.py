"""Strict marshmallow fields for one of a fixed set of values: Enum, Flag and Literal.

Rule of this file: values are compared together with their type, so that ``True`` is not ``1``.
"""

from __future__ import annotations

import enum
import json
from decimal import Decimal
from typing import Any

from marshmallow import ValidationError

from catga_sync.serialization.fielderrors import fail
from catga_sync.serialization.fields.anything import plain_round_trips
from catga_sync.serialization.fields.base import StrictField
from catga_sync.serialization.fields.text import check_text
from catga_sync.serialization.propertynames import fold
from catga_sync.serialization.reader import ReadCode
from catga_sync.serialization.roundtrip import Code
from catga_sync.serialization.source import Uncertain
from catga_sync.serialization.writer import WriteCode

__all__ = ["SCALARS", "EnumField", "FlagField", "LiteralField"]

#: The types of a member's value, and of a literal.
SCALARS = (str, int, float, bool)


def _choices(values: list[Any]) -> str:
    shown = ", ".join(repr(value) for value in values[:8])
    return f"expected one of {shown}" + (", ..." if len(values) > 8 else "")


class EnumField(StrictField):
    """A member, written as its value; read by value, or by name in any spelling. Immutable once bound, thread-safe."""

    kind = "enum"
    keyable = True
    safe_hashes = True

    def __init__(self, enum_class: type[enum.Enum], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.enum_class = enum_class
        names = enum_class.__members__
        # Not "for member in enum_class", which yields other members of a Flag on Python 3.10 than on 3.11.
        self._values = [member.value for member in names.values()]
        self._by_value = {(type(member.value), member.value): member for member in names.values()}
        self._by_name = dict(names)
        #: By name in the spelling of any property: "VeryHigh" is VERY_HIGH.
        self._by_fold: dict[str, Any] = {}
        for name, member in names.items():
            # Members whose names differ only in letter case and underscores are found by their exact names.
            known = self._by_fold.setdefault(fold(name), member)
            if known is not member:
                self._by_fold[fold(name)] = None
        self._expected = _choices(list(dict.fromkeys(self._values)))
        self._by_text = {str(member.value): member for member in names.values()}

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, self.enum_class):
            fail(self.enum_class.__name__, value)
        return value.value

    def from_wire(self, raw: Any) -> Any:
        kind = type(raw)
        if kind is Decimal:
            kind, raw = float, float(raw)
        if kind in SCALARS:
            member = self._by_value.get((kind, raw))
            if member is None and kind is int:
                member = self._by_value.get((float, raw))  # 1.0 may be written as 1
            if member is None and kind is str:
                member = self._by_name.get(raw)
                if member is None:
                    member = self._by_fold.get(fold(raw))
            if member is not None:
                return member
        raise ValidationError(self._expected)

    def key_to_wire(self, value: Any) -> str:
        text = str(self.to_wire(value))
        check_text(text)
        return text

    def key_from_wire(self, text: str) -> Any:
        member = self._by_text.get(text)
        return self.from_wire(text) if member is None else member

    def describe(self) -> list[Any]:
        return [self.kind, sorted({repr(value) for value in self._values})]

    def round_trips_if(self, code: Code, v: str) -> str:
        if not all(map(plain_round_trips, self._values)):
            raise Uncertain
        return f"type({v}) is {code.name(self.enum_class)}"

    def write_code(self, code: WriteCode, v: str) -> str:
        if not _is_plain(self.enum_class) or not all(map(plain_round_trips, self._values)):
            raise Uncertain
        # Members are made once, so that id() tells them apart; a hash of a member is a function in Python.
        texts = {id(member): json.dumps(member.value, ensure_ascii=False) for member in self._by_value.values()}
        return f"{code.name(texts)}[{code.name(id)}({v})] if type({v}) is {code.name(self.enum_class)} else unfit({v})"

    def read_code(self, code: ReadCode, v: str) -> str:
        if not _is_plain(self.enum_class) or not all(map(plain_round_trips, self._values)):
            raise Uncertain
        # Not by name, and not 1 for 1.0: these are not how a node writes them.
        return f"{code.name(self._by_value)}[type({v}), {v}]"


class FlagField(EnumField):
    """Flags, written as their number; read by the number, also of combined flags, or by the name of one flag."""

    kind = "flag"
    safe_hashes = False  # thirty flags can be combined to a billion values

    def __init__(self, enum_class: type[enum.Flag], **kwargs: Any) -> None:
        super().__init__(enum_class, **kwargs)
        self._known = 0
        for value in self._values:
            self._known |= value

    def to_wire(self, value: Any) -> Any:
        return self._check(super().to_wire(value))

    def from_wire(self, raw: Any) -> Any:
        if type(raw) is not int:
            return super().from_wire(raw)
        return self.enum_class(self._check(raw))

    def _check(self, number: int) -> int:
        # An IntFlag accepts any number, and keeps an object for each number it has seen, so numbers are checked first.
        if number < 0 or number & ~self._known:
            raise ValidationError(self._expected + " or several of them combined")
        return number

    def write_code(self, code: WriteCode, v: str) -> str:
        if not _is_plain(self.enum_class):
            raise Uncertain
        return f"'%d' % {code.name(self.to_wire)}({v}) if type({v}) is {code.name(self.enum_class)} else unfit({v})"

    def read_code(self, code: ReadCode, v: str) -> str:
        if not _is_plain(self.enum_class):
            raise Uncertain
        return f"{code.name(self.from_wire)}({v}) if type({v}) is int else unfit({v})"

    def key_from_wire(self, text: str) -> Any:
        return self.from_wire(int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text)


class LiteralField(StrictField):
    """One of the values of a ``Literal``. Immutable once bound, thread-safe."""

    kind = "literal"
    safe_hashes = True

    def __init__(self, values: tuple[Any, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.values = {(type(value), value) for value in values}
        self._expected = _choices(list(values))
        self.keyable = all(type(value) is str for value in values)  # type: ignore[misc]  # of this instance only

    def to_wire(self, value: Any) -> Any:
        kind = type(value)
        if kind not in SCALARS or (kind, value) not in self.values:
            raise ValidationError(self._expected)
        return value

    def from_wire(self, raw: Any) -> Any:
        return self.to_wire(raw)

    def describe(self) -> list[Any]:
        return [self.kind, sorted(repr(value) for _, value in self.values)]

    def round_trips_if(self, code: Code, v: str) -> str:
        if not all(plain_round_trips(value) for _, value in self.values):
            raise Uncertain
        return f"type({v}) in {code.name(SCALARS)} and (type({v}), {v}) in {code.name(frozenset(self.values))}"

    def write_code(self, code: WriteCode, v: str) -> str:
        # Zeros of either sign are equal, so a look-up cannot tell them apart.
        if any(kind is float or not plain_round_trips(value) for kind, value in self.values):
            raise Uncertain
        texts = {key: json.dumps(key[1], ensure_ascii=False) for key in self.values}
        return f"{code.name(texts)}[type({v}), {v}] if type({v}) in {code.name(SCALARS)} else unfit({v})"

    def read_code(self, code: ReadCode, v: str) -> str:
        return f"{code.name(self.load_value)}({v})"


def _is_plain(cls: type[enum.Enum]) -> bool:
    """Return whether what is done with members here runs no code of the application."""
    bases = [base for base in cls.__mro__ if base.__module__ not in ("enum", "builtins")]
    names = ("value", "_missing_", "__eq__", "__hash__", "__getattribute__")
    return type(cls).__call__ is enum.EnumMeta.__call__ and not any(
        name in vars(base) for base in bases for name in names
    )
