"""Whether a value is certain to come off the wire as it goes on, told by generated code.

A local call hands its objects over as they are, a remote one as JSON. Both have to give the same; going through JSON in
either case would cost a local call fifty times what it costs. So a value is looked at first: of exactly the
classes that the annotation names, all the way down, it would come back equal, and nothing needs to be done.

    GetUser(user_id: str, limit: int | None)   ->
        type(v) is C0 and type(v0 := v.user_id) is str and (v0.isascii() or carried(v0))
                      and ((v1 := v.limit) is None or type(v1) is int and -LARGE < v1 < LARGE)

Rules of this file:
1. True is a promise. False promises nothing: whoever gets it lets the codec write and read the value.
2. The text of the code is made of this file's own words, and of attribute names that are checked to be identifiers.
"""

from __future__ import annotations

import dataclasses
import keyword
import math
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

from catga_sync.serialization import hashes, numeric, textual
from catga_sync.serialization.choices import SCALARS, EnumField, LiteralField
from catga_sync.serialization.containers import DictField, ListField, SetField, TupleField
from catga_sync.serialization.fields import AnyField, BoolField, StrField, StrictField
from catga_sync.serialization.shape import Shape, ShapeField

__all__ = ["compile_certain"]

#: Levels of plain data (``Any``) that are looked at; deeper ones are left to the codec, which has a limit.
_DEPTH = 16
_LARGE = 2**63
#: Digits that every process reads, whatever it has told ``sys.set_int_max_str_digits``.
_DIGITS = sys.int_info.str_digits_check_threshold


def compile_certain(field: StrictField) -> Callable[[Any], bool]:
    """
    Return a function that tells of a value that is not None whether the wire is certain to carry it unchanged.

    It may raise for an object that lacks an attribute, or that does something when it is looked at: that is no "yes"
    either.
    """
    return _Writer().function(field)


class _Writer:
    """The code of one function. ``names`` is all that the code can see."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {
            "__builtins__": {},
            "DICT": hashes.DICT,
            "DIGITS": _DIGITS,
            "LARGE": _LARGE,
            "SET": hashes.SET,
            "all": all,
            "any_is_certain": _any_is_certain,
            "bytes": bytes,
            "carried": _carried,
            "crowded": hashes.crowded,
            "date": date,
            "datetime": datetime,
            "Decimal": Decimal,
            "dict": dict,
            "float": float,
            "frozenset": frozenset,
            "int": int,
            "len": len,
            "list": list,
            "scalars": SCALARS,
            "set": set,
            "str": str,
            "time": time,
            "timedelta": timedelta,
            "timezone": timezone,
            "tuple": tuple,
            "type": type,
            "UUID": UUID,
        }
        self._shapes: dict[Shape, str] = {}
        self._count = 0

    def function(self, field: StrictField) -> Callable[[Any], bool]:
        """Return the function for a field."""
        try:
            test = self._test(field, "v")
        except _Uncertain:
            return lambda value: False
        return self._compile(test)

    def _compile(self, test: str) -> Callable[[Any], bool]:
        made: Callable[[Any], bool] = eval(f"lambda v: {test}", self.names)  # noqa: S307 - see rule 2
        return made

    def _value(self, field: StrictField, value: str) -> str:
        """Return the test of an expression, which is evaluated once."""
        self._count += 1
        name = f"v{self._count}"
        if field.allow_none:
            try:
                return f"(({name} := {value}) is None or {self._test(field, name)})"
            except _Uncertain:
                return f"{value} is None"
        return self._test(field, name).replace(name, f"({name} := {value})", 1)

    def _test(self, field: StrictField, v: str) -> str:
        """Return the test of a variable that is not None, which it names first of all."""
        plain = _PLAIN.get(type(field))
        if plain is not None:
            return f"({plain.replace('$', v)})"
        # Exact types, and not isinstance: of a subclass nothing is known here.
        if type(field) is ShapeField:
            return f"{self._shape(field.shape)}({v})"
        if type(field) is ListField or type(field) is SetField:
            return self._collection(field, v)
        if type(field) is TupleField:
            items = [self._value(item, f"{v}[{at}]") for at, item in enumerate(field.items)]
            return f"(type({v}) is tuple and {' and '.join([f'len({v}) == {len(items)}', *items])})"
        if type(field) is DictField and type(field.key) in _CERTAIN_KEYS:
            return self._dict(field, v)
        if type(field) is EnumField and all(_scalar_is_certain(value) for value in field.enum_class):
            return f"(type({v}) is {self._name(field.enum_class)})"
        if type(field) is LiteralField and all(_any_is_certain(value) for _, value in field.values):
            values = self._name(frozenset(field.values))
            return f"(type({v}) in scalars and (type({v}), {v}) in {values})"
        raise _Uncertain

    def _collection(self, field: ListField, v: str) -> str:
        item = f"i{self._count}"
        self._count += 1
        tests = f"type({v}) is {field.collection.__name__} and all({self._item(field.item, item)} for {item} in {v})"
        # What a set is refused for on the wire has to be refused here, too.
        spread = type(field) is SetField and not field.item.safe_hashes
        return f"({tests} and not crowded({v}, SET))" if spread else f"({tests})"

    def _dict(self, field: DictField, v: str) -> str:
        key, item = f"k{self._count}", f"i{self._count}"
        self._count += 1
        tests = f"{self._test(field.key, key)} and {self._item(field.value, item)}"
        spread = "" if field.key.safe_hashes else f" and not crowded({v}, DICT)"
        return f"(type({v}) is dict and all({tests} for {key}, {item} in {v}.items()){spread})"

    def _item(self, field: StrictField, v: str) -> str:
        if not field.allow_none:
            return self._test(field, v)
        try:
            return f"({v} is None or {self._test(field, v)})"
        except _Uncertain:
            return f"{v} is None"

    def _shape(self, shape: Shape) -> str:
        """Return the name of the function for a shape. One that contains itself may be deeper than the wire allows."""
        known = self._shapes.get(shape)
        if known is not None:
            if known not in self.names:
                raise _Uncertain
            return known
        if not _is_made_of_its_fields(shape.cls):
            raise _Uncertain
        name = self._shapes[shape] = f"s{len(self._shapes)}"
        tests = [f"type(v) is {self._name(shape.cls)}"]
        for attribute, field in shape.fields.items():
            if not attribute.isidentifier() or keyword.iskeyword(attribute):
                raise _Uncertain
            tests.append(self._value(field, f"v.{attribute}"))
        self.names[name] = self._compile(" and ".join(tests))
        return name

    def _name(self, value: Any) -> str:
        name = f"C{len(self.names)}"
        self.names[name] = value
        return name


class _Uncertain(Exception):
    """Nothing can be promised of a field."""


#: Tests in which ``$`` is the variable.
_PLAIN: dict[type[StrictField], str] = {
    StrField: "type($) is str and ($.isascii() or carried($))",
    BoolField: "$ is True or $ is False",
    numeric.IntField: "type($) is int and -LARGE < $ < LARGE",
    numeric.FloatField: "type($) is float and $ - $ == 0.0",
    numeric.DecimalField: "type($) is Decimal and $.is_finite() and len($.as_tuple().digits) < DIGITS",
    textual.BytesField: "type($) is bytes",
    textual.DateTimeField: "type($) is datetime and ($.tzinfo is None or type($.tzinfo) is timezone)",
    textual.DateField: "type($) is date",
    textual.TimeField: "type($) is time and ($.tzinfo is None or type($.tzinfo) is timezone)",
    textual.TimeDeltaField: "type($) is timedelta",
    textual.UUIDField: "type($) is UUID",
    AnyField: "any_is_certain($)",
}
#: Keys whose text means nothing else.
_CERTAIN_KEYS = (StrField, numeric.IntField, textual.UUIDField, textual.DateField)


def _is_made_of_its_fields(cls: Any) -> bool:
    """Return whether making an object anew from the values of its fields gives an equal one, and cannot fail."""
    parameters = getattr(cls, "__dataclass_params__", None)
    if parameters is None or not parameters.init or hasattr(cls, "__post_init__"):
        return False
    # dataclass() leaves an __init__ alone that the class has written itself; its own is made by exec.
    code = getattr(cls.__init__, "__code__", None)
    return bool(
        code is not None
        and code.co_filename == "<string>"
        and cls.__new__ is object.__new__
        and cls.__getattribute__ is object.__getattribute__
        and (parameters.frozen or cls.__setattr__ is object.__setattr__)
        and all(field.init for field in dataclasses.fields(cls))
    )


def _carried(text: str) -> bool:
    """Return whether UTF-8 can carry a text."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _any_is_certain(value: Any, depth: int = 0) -> bool:
    kind = type(value)
    if kind is str:
        return _carried(value)
    if kind is int:
        return bool(-_LARGE < value < _LARGE)
    if kind is float:
        return math.isfinite(value)
    if value is None or kind is bool:
        return True
    if depth == _DEPTH:
        return False
    if kind is list:
        return all(_any_is_certain(item, depth + 1) for item in value)
    return kind is dict and all(
        type(key) is str and _carried(key) and _any_is_certain(item, depth + 1) for key, item in value.items()
    )


def _scalar_is_certain(member: Any) -> bool:
    return _any_is_certain(member.value)
