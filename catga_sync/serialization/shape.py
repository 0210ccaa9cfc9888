"""A dataclass on the wire: which attribute is which property, and how an object is written and made.

Rules of this file:
1. ``to_wire`` and ``from_wire`` do what ``schema.dump`` and ``schema.load`` do, with the same results and the same
   errors (a property test says so), without what marshmallow does for every object and field again.
2. A shape may stand in its own fields, so it is made first and filled afterwards; then it never changes.
"""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError

from catga_sync.serialization.fields import StrictField, fail
from catga_sync.serialization.names import WireKeys
from catga_sync.serialization.refusal import construct
from catga_sync.serialization.schema import CatgaSchema

__all__ = ["Shape", "ShapeField"]

_MISSING: Any = object()


class Shape:
    """
    How one dataclass goes over the wire. Immutable once filled, thread-safe.

    Args:
        cls:
            The class.

        label:
            What to call it in an error.
    """

    def __init__(self, cls: type, label: str) -> None:
        self.cls = cls
        self.label = label
        #: By attribute name.
        self.fields: dict[str, StrictField] = {}
        self._schema: CatgaSchema | None = None

    def fill(self, fields: dict[str, StrictField]) -> None:
        """
        Give the fields; each has its ``data_key`` and says whether it is required.

        Raises:
            RegistrationError: Two of them have the same name on the wire.
        """
        self._keys = WireKeys({name: str(field.data_key) for name, field in fields.items()}, self.label)
        self._dumpers = tuple((name, str(field.data_key), field.dump_value) for name, field in fields.items())
        self._loaders = tuple(
            (name, str(field.data_key), field.required, field.load_value) for name, field in fields.items()
        )
        self.fields = fields

    def schema(self) -> CatgaSchema:
        """Return the marshmallow schema, made once."""
        if self._schema is None:
            self._schema = CatgaSchema.derived(self.cls, self.fields)
        return self._schema

    def to_wire(self, value: Any) -> dict[str, Any]:
        """Return plain JSON data for an object. Raises ValidationError."""
        if not isinstance(value, self.cls):
            fail(self.cls.__name__, value)
        out: dict[Any, Any] = {}
        errors: dict[str, Any] | None = None
        for name, key, dump in self._dumpers:
            item = getattr(value, name, _MISSING)
            try:
                if item is _MISSING:
                    raise ValidationError("is missing")
                out[key] = dump(item)
            except ValidationError as exc:
                errors = {} if errors is None else errors
                errors[name] = exc.messages
        if errors is not None:
            raise ValidationError(errors)
        return out

    def from_wire(self, raw: Any) -> Any:
        """Return an object for plain JSON data. Raises ValidationError."""
        if not isinstance(raw, dict):
            fail("object", raw)
        found = self._keys.match(raw)
        values: dict[str, Any] = {}
        errors: dict[Any, Any] | None = None
        for name, key, required, load in self._loaders:
            item = found.get(key, _MISSING)
            try:
                if item is not _MISSING:
                    values[name] = load(item)
                elif required:
                    raise ValidationError("is missing")
            except ValidationError as exc:
                errors = {} if errors is None else errors
                errors[key] = exc.messages
        if errors is not None:
            raise ValidationError(errors)
        return construct(self.cls, values)


class ShapeField(StrictField):
    """A field for a derived dataclass. Immutable once bound, thread-safe."""

    kind = "object"

    def __init__(self, shape: Shape, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shape = shape
        self.to_wire = shape.to_wire  # type: ignore[method-assign]  # one call less for each object
        self.from_wire = shape.from_wire  # type: ignore[method-assign]

    def inner(self) -> tuple[StrictField, ...]:
        """Return the fields of the class."""
        return tuple(self.shape.fields.values())
