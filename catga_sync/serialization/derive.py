"""Makes strict fields from annotations of the types that can go over the wire.

    str int float bool bytes Decimal datetime date time timedelta UUID Enum Flag Literal Any
    X | None    list[X]    tuple[X, Y]    tuple[X, ...]    set[X]    frozenset[X]    dict[K, V]    a dataclass of these

Rules of this file:
1. Any other type is an error that names class and field, at registration and not at the first call.
2. A class is entered before its fields are derived, so that it may contain itself, and two classes each other.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import typing
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, get_args, get_origin
from uuid import UUID

from marshmallow import Schema

from catga_sync.errors import RegistrationError
from catga_sync.serialization.annotations import Scope, annotation_of
from catga_sync.serialization.fields.anything import AnyField, NoneField
from catga_sync.serialization.fields.base import StrictField
from catga_sync.serialization.fields.boolean import BoolField
from catga_sync.serialization.fields.bytes import BytesField
from catga_sync.serialization.fields.choice import SCALARS, EnumField, FlagField, LiteralField
from catga_sync.serialization.fields.container import DictField, ListField, SetField, TupleField
from catga_sync.serialization.fields.foreign import SchemaField
from catga_sync.serialization.fields.number import DecimalField, FloatField, IntField
from catga_sync.serialization.fields.object import Shape, ShapeField
from catga_sync.serialization.fields.text import StrField
from catga_sync.serialization.fields.time import DateField, DateTimeField, TimeDeltaField, TimeField
from catga_sync.serialization.fields.uuid import UUIDField
from catga_sync.serialization.jsonscan import MAX_DEPTH
from catga_sync.serialization.propertynames import camel_case
from catga_sync.serialization.typenames import default_name

__all__ = ["Deriver"]

_SCALAR_FIELDS: dict[Any, type[StrictField]] = {
    str: StrField,
    int: IntField,
    float: FloatField,
    bool: BoolField,
    bytes: BytesField,
    Decimal: DecimalField,
    datetime: DateTimeField,
    date: DateField,
    time: TimeField,
    timedelta: TimeDeltaField,
    UUID: UUIDField,
    Any: AnyField,
    type(None): NoneField,
}
#: The meaning of a container without a parameter.
_BARE: dict[Any, Any] = {
    list: list[Any],
    tuple: tuple[Any, ...],
    set: set[Any],
    frozenset: frozenset[Any],
    dict: dict[str, Any],
    typing.List: list[Any],  # noqa: UP006  # in users' code
    typing.Tuple: tuple[Any, ...],  # noqa: UP006
    typing.Set: set[Any],  # noqa: UP006
    typing.FrozenSet: frozenset[Any],  # noqa: UP006
    typing.Dict: dict[str, Any],  # noqa: UP006
    None: type(None),
}
#: How often a generic class may be nested in itself with different parameters.
_MAX_NESTING = 8
_SUPPORTED = (
    "str, int, float, bool, bytes, Decimal, datetime, date, time, timedelta, UUID, an Enum, Literal, Any, Optional, "
    "list, tuple, set, frozenset, dict, a dataclass of these, or a class with @message(schema=...)"
)


class Deriver:
    """
    Makes fields from annotations. Not thread-safe; each registration has its own.

    Args:
        shapes: The shapes made before, by class and type arguments; new ones are added.
        schema_of: Returns the user's schema of a class, or None.
    """

    def __init__(self, shapes: dict[Any, Shape], schema_of: Callable[[type], Schema | None]) -> None:
        self._shapes = shapes
        self._schema_of = schema_of
        self._open: list[type] = []  # the classes whose fields are being derived, outermost first
        self._depth = 0  # how many containers, in the annotation of one field, enclose the current one

    def field(self, annotation: Any, scope: Scope, **options: Any) -> StrictField:
        """
        Return the field for an annotation.

        Args:
            annotation: Any of the types in the module's list.
            scope: Where the annotation is written.
            options: Arguments of the field: ``required`` and ``data_key``.

        Raises:
            RegistrationError: The annotation, or a part of it, is not in the list.
        """
        annotation, nullable = scope.unwrap(annotation)
        if nullable:
            options["allow_none"] = True
        try:
            annotation = _BARE.get(annotation, annotation)
        except TypeError:  # unhashable, so not one of the types here
            raise _underivable(annotation, scope) from None
        if annotation in _SCALAR_FIELDS:
            if annotation is Any or annotation is type(None):
                options["allow_none"] = True
            return _SCALAR_FIELDS[annotation](**options)
        origin = get_origin(annotation)
        if origin is typing.Literal:
            return _literal(annotation, scope, options)
        if origin in (list, set, frozenset, tuple, dict):
            # Deeper values cannot be sent, and only aliases such as ``type Tree = list[Tree]`` are deeper.
            if self._depth == MAX_DEPTH:
                raise RegistrationError(f"{scope.place}: contains itself; use a dataclass, which may contain itself")
            self._depth += 1
            field = self._container(origin, get_args(annotation), scope, options)
            self._depth -= 1
            return field
        cls = origin if isinstance(origin, type) else annotation
        if isinstance(cls, type):
            schema = self._schema_of(cls)
            if schema is not None:
                return SchemaField(schema, cls, **options)
            if issubclass(cls, enum.Enum):
                return _enum(cls, scope, options)
            if dataclasses.is_dataclass(cls):
                return ShapeField(self.shape(cls, get_args(annotation)), **options)
        raise _underivable(annotation, scope)

    def shape(self, cls: type, arguments: tuple[Any, ...] = ()) -> Shape:
        """
        Return the shape of a dataclass.

        Raises:
            RegistrationError: One of its fields cannot be derived.
        """
        label = default_name(cls)
        shape = self._shapes.get((cls, arguments))
        if shape is not None:
            return shape
        if self._open.count(cls) == _MAX_NESTING:
            raise RegistrationError(
                f"{label}: contains itself with another type parameter at each level; use the same one"
            )
        _check_decorated(cls, label)
        shape = self._shapes[cls, arguments] = Shape(cls, label)
        self._open.append(cls)
        depth, self._depth = self._depth, 0
        bound = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
        derived: dict[str, StrictField] = {}
        for field in dataclasses.fields(cls):
            if not field.init:
                continue
            place = f"{label}.{field.name}"
            annotation = annotation_of(cls, field.name, field.type, place, bound)
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            derived[field.name] = self.field(
                annotation, Scope(cls, place, bound), required=required, data_key=camel_case(field.name)
            )
        self._depth = depth
        self._open.pop()
        shape.fill(derived)
        return shape

    def _container(self, origin: Any, args: tuple[Any, ...], scope: Scope, options: dict[str, Any]) -> StrictField:
        if origin is list:
            return ListField(self.field(args[0], scope), **options)
        if origin in (set, frozenset):
            return SetField(self.field(args[0], scope), origin, **options)
        if origin is tuple:
            if len(args) == 2 and args[1] is ...:
                return ListField(self.field(args[0], scope), tuple, **options)
            args = () if args == ((),) else args  # how Python 3.10 gives tuple[()]
            return TupleField(tuple(self.field(arg, scope) for arg in args), **options)
        key = self.field(args[0], scope)
        if not key.keyable or key.allow_none:
            raise RegistrationError(
                f"{scope.place}: a dict cannot have keys of {_text(args[0])} on the wire; use str, int, bool, Decimal, "
                "UUID, datetime, date or an Enum"
            )
        return DictField(key, self.field(args[1], scope), **options)


def _underivable(annotation: Any, scope: Scope) -> RegistrationError:
    return RegistrationError(f"{scope.place}: cannot derive a field from {_text(annotation)}; use {_SUPPORTED}")


def _literal(annotation: Any, scope: Scope, options: dict[str, Any]) -> StrictField:
    values = tuple(value for value in get_args(annotation) if value is not None)
    if len(values) < len(get_args(annotation)):
        options["allow_none"] = True
    if not values or any(type(value) not in SCALARS for value in values):
        raise RegistrationError(f"{scope.place}: a Literal can have str, int, bool and None, unlike {annotation!r}")
    return LiteralField(values, **options)


def _enum(cls: type[enum.Enum], scope: Scope, options: dict[str, Any]) -> StrictField:
    for member in cls.__members__.values():
        if type(member.value) not in SCALARS:
            raise RegistrationError(
                f"{scope.place}: {cls.__name__}.{member.name} has a value of type {type(member.value).__name__}; an "
                "Enum is sent as its value, which can be str, int, float or bool"
            )
    return FlagField(cls, **options) if issubclass(cls, enum.Flag) else EnumField(cls, **options)


def _check_decorated(cls: type, label: str) -> None:
    annotations = inspect.get_annotations(cls)
    known = cls.__dict__.get("__dataclass_fields__")
    if known is None and annotations:
        raise RegistrationError(
            f"{label}: adds {', '.join(annotations)} to a dataclass but is not one itself; add @dataclass(frozen=True)"
        )
    for name, field in getattr(cls, "__dataclass_fields__", {}).items():
        # dataclasses.fields() leaves out InitVars, as it does class variables.
        if getattr(field, "_field_type", None) is dataclasses._FIELD_INITVAR:  # type: ignore[attr-defined]
            raise RegistrationError(
                f"{label}.{name}: an InitVar cannot be written because the object does not keep it; make it a field"
            )


def _text(annotation: Any) -> str:
    if not isinstance(annotation, type) or get_args(annotation):
        return repr(annotation)
    return annotation.__qualname__ if annotation.__module__ == "builtins" else default_name(annotation)
