"""A user's marshmallow schema as a field, for messages with ``@message(schema=...)``.

Rules of this file:
1. The schema is the application's: errors show the messages of its validators, but not the texts of other exceptions.
2. A plain schema loads a dict, which becomes the keyword arguments of the class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields

from catga_sync.errors import RegistrationError
from catga_sync.serialization.fielderrors import caused_error, construct, fail
from catga_sync.serialization.fields.base import StrictField
from catga_sync.serialization.schema import CatgaSchema

__all__ = ["SchemaField", "schema_instance"]


def schema_instance(schema: Any, cls: type | None, owner: str) -> Schema:
    """
    Return the instance for a schema class or instance that a user gave.

    Args:
        schema: The class or instance. A ``CatgaSchema`` without a class to make is set to make ``cls``.
        cls: The class of the values. None accepts whatever the schema loads.
        owner: The name of the message, for an error.

    Raises:
        RegistrationError: It is not a schema, cannot be instantiated, or is for another class or for many objects.
    """
    if isinstance(schema, type) and issubclass(schema, Schema):
        try:
            schema = schema()
        except Exception as exc:
            raise RegistrationError(f"{owner}: schema: {schema.__name__}() raised {type(exc).__name__}: {exc}") from exc
    if not isinstance(schema, Schema):
        raise RegistrationError(f"{owner}: schema: give a marshmallow Schema, class or instance, not {schema!r}")
    if cls is None:
        return schema
    if schema.many:
        raise RegistrationError(f"{owner}: schema: {type(schema).__name__} is for many objects; leave many=True out")
    if isinstance(schema, CatgaSchema):
        if schema.makes is None:
            schema.makes = cls
        elif not issubclass(schema.makes, cls):
            raise RegistrationError(
                f"{owner}: schema: {type(schema).__name__} makes {schema.makes.__name__}; "
                f"give a schema for {cls.__name__}"
            )
    return schema


class SchemaField(StrictField):
    """
    A field that a user's schema reads and writes. Immutable once bound, thread-safe.

    Args:
        schema: The instance.
        cls: The class of the values. None accepts whatever the schema dumps and loads.
    """

    kind = "schema"
    signed_zeros = True

    def __init__(self, schema: Schema, cls: type | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.schema = schema
        self.cls = cls

    def to_wire(self, value: Any) -> Any:
        if self.cls is not None and not isinstance(value, self.cls):
            fail(self.cls.__name__, value)
        return self._call(self.schema.dump, value, "write")

    def from_wire(self, raw: Any) -> Any:
        loaded = self._call(self.schema.load, raw, "read")
        if self.cls is None or isinstance(loaded, self.cls):
            return loaded
        if isinstance(loaded, Mapping):
            return construct(self.cls, loaded)
        raise ValidationError(f"{type(self.schema).__name__} did not make a {self.cls.__name__}")

    def _call(self, method: Callable[[Any], Any], value: Any, verb: str) -> Any:
        try:
            return method(value)
        except (ValidationError, RecursionError):
            raise
        except Exception as exc:
            raise caused_error(f"{type(self.schema).__name__} cannot {verb} it", exc) from exc

    def describe(self) -> list[Any]:
        return [self.kind, _describe_schema(self.schema)]

    def reads_decimals(self) -> bool:
        return any(isinstance(field, fields.Decimal) for field in _all_fields(self.schema))


def _describe_schema(schema: Schema, above: tuple[type, ...] = ()) -> list[Any]:
    """Return the contract of a user's schema: plain data, the same in every process and version of marshmallow."""
    kind = type(schema)
    if kind in above:
        return ["again", len(above) - above.index(kind)]
    names = {**schema.load_fields, **schema.dump_fields}
    described = [
        [field.data_key or name, _describe_field(field, (*above, kind)), bool(field.required), bool(field.allow_none)]
        for name, field in names.items()
    ]
    return [bool(schema.many), sorted(described, key=repr)]


def _describe_field(field: Any, above: tuple[type, ...]) -> list[Any]:
    described: list[Any] = [type(field).__name__]
    described.extend(_describe_schema(nested, above) for nested in _nested_schemas(field))
    described.extend(_describe_field(inner, above) for inner in _inner_fields(field))
    return described


def _all_fields(schema: Schema, above: tuple[type, ...] = ()) -> Iterator[Any]:
    """Yield the fields that a user's schema loads, and all fields inside them."""
    if type(schema) not in above:
        found = list(schema.load_fields.values())
        for field in found:
            yield field
            found.extend(_inner_fields(field))
            for nested in _nested_schemas(field):
                yield from _all_fields(nested, (*above, type(schema)))


def _nested_schemas(field: Any) -> list[Schema]:
    if isinstance(field, fields.Pluck) or not isinstance(field, fields.Nested):
        return []
    return [field.schema]


def _inner_fields(field: Any) -> list[Any]:
    inner = [getattr(field, name, None) for name in ("inner", "key_field", "value_field")]
    inner.extend(getattr(field, "tuple_fields", ()))
    return [found for found in inner if isinstance(found, fields.Field)]
