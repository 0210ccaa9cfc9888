"""Dataclasses on the wire: which attribute is which property, and how an object is written and made.

Rules of this file:
1. ``to_wire`` and ``from_wire`` have the results and errors of ``schema.dump`` and ``schema.load`` (a property test
   compares them), without the work that marshmallow repeats for every object and field.
2. A shape may be part of its own fields, so it is made first and filled afterwards; then it never changes.
"""

from __future__ import annotations

import dataclasses
import keyword
from typing import Any

from marshmallow import ValidationError

from catga_sync.serialization.fielderrors import construct, fail
from catga_sync.serialization.fields.base import StrictField
from catga_sync.serialization.propertynames import WireKeys
from catga_sync.serialization.roundtrip import Code, Uncertain
from catga_sync.serialization.schema import CatgaSchema

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

    def round_trips_if(self, code: Code) -> list[str]:
        """Return the tests of an object ``v``, in order; see ``StrictField.round_trips_if``."""
        if not _is_made_of_its_fields(self.cls) or not all(map(_is_name, self.fields)):
            raise Uncertain
        tests = [f"type(v) is {code.name(self.cls)}"]
        return tests + [code.part(field, f"v.{name}") for name, field in self.fields.items()]


def _is_name(attribute: str) -> bool:
    return attribute.isidentifier() and not keyword.iskeyword(attribute)


def _is_made_of_its_fields(cls: Any) -> bool:
    """Return whether making a new object from the values of the fields gives an equal one, and cannot fail."""
    parameters = getattr(cls, "__dataclass_params__", None)
    if parameters is None or not parameters.init or hasattr(cls, "__post_init__"):
        return False
    # dataclass() does not replace an __init__ of the class; the one that it makes comes from exec.
    code = getattr(cls.__init__, "__code__", None)
    return bool(
        code is not None
        and code.co_filename == "<string>"
        and cls.__new__ is object.__new__
        and cls.__getattribute__ is object.__getattribute__
        and (parameters.frozen or cls.__setattr__ is object.__setattr__)
        and all(field.init for field in dataclasses.fields(cls))
    )


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
        return f"{code.function(self.shape, lambda: self.shape.round_trips_if(code))}({v})"
