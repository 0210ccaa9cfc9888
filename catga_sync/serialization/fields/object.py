"""Dataclasses on the wire: which attribute is which property, and how an object is written and made.

Rules of this file:
1. ``to_wire`` and ``from_wire`` have the results and errors of ``schema.dump`` and ``schema.load`` (a property test
   compares them), without the work that marshmallow repeats for every object and field.
2. A shape may be part of its own fields, so it is made first and filled afterwards; then it never changes.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable
from json.encoder import encode_basestring
from typing import Any

from marshmallow import ValidationError

from catga_sync.serialization.fielderrors import construct, fail
from catga_sync.serialization.fields.base import StrictField
from catga_sync.serialization.propertynames import WireKeys
from catga_sync.serialization.reader import CountCode, ReadCode
from catga_sync.serialization.roundtrip import Code
from catga_sync.serialization.schema import CatgaSchema
from catga_sync.serialization.source import Uncertain
from catga_sync.serialization.writer import WriteCode

__all__ = ["Shape", "ShapeField"]

_MISSING: Any = object()


class Shape:
    """
    The properties of one dataclass on the wire. Immutable once filled, thread-safe.

    Args:
        cls: The class.
        label: Its name, for an error.
    """

    def __init__(self, cls: type, label: str) -> None:
        self.cls = cls
        self.label = label
        #: By attribute name.
        self.fields: dict[str, StrictField] = {}
        self._schema: CatgaSchema | None = None

    def fill(self, fields: dict[str, StrictField]) -> None:
        """
        Set the fields, which have their ``data_key`` and ``required`` set.

        Raises:
            RegistrationError: Two fields have the same name on the wire.
        """
        self._keys = WireKeys({name: str(field.data_key) for name, field in fields.items()}, self.label)
        self._dumpers = tuple((name, str(field.data_key), field.dump_value) for name, field in fields.items())
        self._loaders = tuple(
            (name, str(field.data_key), field.required, field.load_value) for name, field in fields.items()
        )
        self.fields = fields

    def schema(self) -> CatgaSchema:
        """Return the marshmallow schema, always the same one."""
        if self._schema is None:
            self._schema = CatgaSchema.derived(self.cls, self.fields)
        return self._schema

    def to_wire(self, value: Any) -> dict[str, Any]:
        """Return plain JSON data for an object. Raises ValidationError."""
        if not isinstance(value, self.cls):
            fail(self.cls.__name__, value)
        out: dict[Any, Any] = {}
        errors: dict[Any, Any] = {}
        for name, key, dump in self._dumpers:
            item = getattr(value, name, _MISSING)
            try:
                if item is _MISSING:
                    raise ValidationError("is missing")
                out[key] = dump(item)
            except ValidationError as exc:
                errors[name] = exc.messages
        if errors:
            raise ValidationError(errors)
        return out

    def from_wire(self, raw: Any) -> Any:
        """Return an object for plain JSON data. Raises ValidationError."""
        if not isinstance(raw, dict):
            fail("object", raw)
        found = self._keys.match(raw)
        values: dict[str, Any] = {}
        errors: dict[Any, Any] = {}
        for name, key, required, load in self._loaders:
            item = found.get(key, _MISSING)
            try:
                if item is not _MISSING:
                    values[name] = load(item)
                elif required:
                    raise ValidationError("is missing")
            except ValidationError as exc:
                errors[key] = exc.messages
        if errors:
            raise ValidationError(errors)
        return construct(self.cls, values)

    def round_trips_if(self, code: Code) -> str:
        """Return the test of an object ``v``; see ``StrictField.round_trips_if``."""
        if not _is_made_of_its_fields(self.cls):
            raise Uncertain
        tests = [f"type(v) is {code.name(self.cls)}"]
        return " and ".join(
            tests + [code.part(field, code.attribute("v", name)) for name, field in self.fields.items()]
        )

    def write_code(self, code: WriteCode) -> tuple[str, tuple[str, ...]]:
        """Return the function that writes an object ``v`` of the class itself; see ``StrictField.write_code``."""
        if not _has_plain_attributes(self.cls, self.fields):
            raise Uncertain
        parts = [
            (f"{encode_basestring(str(field.data_key))}:", field, code.attribute("v", name))
            for name, field in self.fields.items()
        ]
        return code.parts("{", parts, "}")

    def read_code(self, code: ReadCode) -> tuple[str, tuple[str, ...]]:
        """Return the function that makes an object of a dict ``v``; see ``StrictField.read_code``."""
        if self.runs_code():
            raise Uncertain
        values, lines = self._read(code)
        made, cls = code.variable(), code.name(self.cls)
        # What the __init__ of a dataclass does; a frozen one looks these functions up for each attribute. To fill its
        # __dict__ takes half of that, and from Python 3.11 on 65 bytes an object and slower attributes.
        lines += (f"{made} = {code.name(object.__new__)}({cls})",)
        assign = code.name(object.__setattr__)
        return made, (*lines, *(f"{assign}({made}, {name!r}, {value})" for name, value in values.items()))

    def read_values(self, code: ReadCode) -> tuple[str, tuple[str, ...]]:
        """Return the function that returns the arguments of the class for a dict ``v``."""
        values, lines = self._read(code)
        return f"{{{''.join(f'{name!r}: {value}, ' for name, value in values.items())}}}", lines

    def _read(self, code: ReadCode) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return the expressions for the values by attribute, and the lines before them."""
        lines, values = [f"if type(v) is not dict or len(v) != {len(self.fields)}: unfit(v)"], {}
        for name, field in self.fields.items():
            item = code.variable()
            lines.append(f"{item} = v[{str(field.data_key)!r}]")
            values[name] = code.item(field, item)
        return values, tuple(lines)

    def count_code(self, code: CountCode, v: str) -> str:
        """Return the expression for the number of properties in a variable; see ``StrictField.count_code``."""
        return code.total(
            self,
            lambda: [
                str(len(self.fields)),
                *(code.count(field, f"v[{str(field.data_key)!r}]") for field in self.fields.values()),
            ],
            v,
        )

    def runs_code(self) -> bool:
        """Return whether making an object runs code of the application."""
        return not (
            _is_made_of_its_fields(self.cls)
            and type(self.cls).__call__ is type.__call__
            and _has_plain_attributes(self.cls, self.fields)
        )


def _is_made_of_its_fields(cls: Any) -> bool:
    """Return whether making a new object from the values of the fields gives an equal one, and cannot fail."""
    parameters = getattr(cls, "__dataclass_params__", None)
    if parameters is None or not parameters.init or hasattr(cls, "__post_init__"):
        return False
    return bool(
        _has_its_own_init(cls, frozen=parameters.frozen)
        and cls.__new__ is object.__new__
        and cls.__getattribute__ is object.__getattribute__
        and (parameters.frozen or cls.__setattr__ is object.__setattr__)
        and all(field.init for field in dataclasses.fields(cls))
    )


def _has_its_own_init(cls: Any, *, frozen: bool) -> bool:
    """Return whether ``__init__`` is what ``dataclass`` makes of the fields, and no function of the application."""
    found = next((vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)), None)
    if type(found) is not types.FunctionType:  # a wrapper passes on what it wraps
        return False
    like: list[tuple[str, type, Any]] = []
    for each in dataclasses.fields(cls):
        given: dict[str, Any] = {"kw_only": each.kw_only}
        if each.default_factory is not dataclasses.MISSING:
            given["default_factory"] = each.default_factory
        elif each.default is not dataclasses.MISSING:
            given["default"] = None
        like.append((each.name, object, dataclasses.field(**given)))
    try:
        made = vars(dataclasses.make_dataclass("Like", like, frozen=frozen))["__init__"].__code__
    except (TypeError, ValueError):
        return False
    own = found.__code__
    return (own.co_code, own.co_names, own.co_varnames) == (made.co_code, made.co_names, made.co_varnames)


def _has_plain_attributes(cls: type, names: Iterable[str]) -> bool:
    """Return whether looking at these attributes of an object runs no code of the application."""
    if getattr(cls, "__getattribute__", None) is not object.__getattribute__ or hasattr(cls, "__getattr__"):
        return False
    for name in names:
        for base in cls.__mro__:
            if name in vars(base):
                found = vars(base)[name]  # a default, or a slot, or a property
                if type(found) is not types.MemberDescriptorType and any(
                    hasattr(type(found), name) for name in ("__get__", "__set__", "__delete__")
                ):
                    return False
                break
    return True


class ShapeField(StrictField):
    """A field for a derived dataclass. Immutable once bound, thread-safe."""

    kind = "object"

    def __init__(self, shape: Shape, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shape = shape
        self.to_wire = shape.to_wire  # type: ignore[method-assign]  # one call less for each object
        self.from_wire = shape.from_wire  # type: ignore[method-assign]

    def inner(self) -> tuple[StrictField, ...]:
        return tuple(self.shape.fields.values())

    def round_trips_if(self, code: Code, v: str) -> str:
        test = code.function(self.shape, lambda: (self.shape.round_trips_if(code), ()), recursive=False)
        return f"{test}({v})"

    def write_code(self, code: WriteCode, v: str) -> str:
        write = code.function(self.shape, lambda: self.shape.write_code(code))
        return f"{write}({v}) if type({v}) is {code.name(self.shape.cls)} else unfit({v})"

    def read_code(self, code: ReadCode, v: str) -> str:
        return f"{code.function(self.shape, lambda: self.shape.read_code(code))}({v})"

    def count_code(self, code: CountCode, v: str) -> str:
        return self.shape.count_code(code, v)

    def runs_code_of(self) -> type | None:
        return self.shape.cls if self.shape.runs_code() else None

    def read_values(self, code: ReadCode) -> str:
        return code.function((self.shape, "values"), lambda: self.shape.read_values(code))
