"""Makes the ``MessageType`` of a class, and checks at registration what no call has to check again.

Rule of this file: a ``Draft`` only adds to itself. The registry takes over all of it or, after an error, nothing.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from marshmallow import Schema

from catga_sync.errors import RegistrationError
from catga_sync.messages import Event, MessageOptions, Query, Request, options_of
from catga_sync.serialization.annotations import Scope, is_union, response_annotation
from catga_sync.serialization.codec import Codec
from catga_sync.serialization.contract import contract
from catga_sync.serialization.derive import Deriver
from catga_sync.serialization.dotnet import DotnetNames
from catga_sync.serialization.fields.base import StrictField
from catga_sync.serialization.fields.foreign import SchemaField, schema_instance
from catga_sync.serialization.fields.object import Shape, ShapeField
from catga_sync.serialization.message_type import MessageKind, MessageType
from catga_sync.serialization.typenames import MAX_NAME, check_name, default_name, short_name, split_assembly

__all__ = ["Draft"]


class Draft:
    """
    A registration in progress. Not thread-safe; one for each call of ``register``.

    Args:
        by_type, by_name, shapes: The content of the registry, which is copied.
    """

    def __init__(
        self, by_type: Mapping[type, MessageType], by_name: Mapping[str, MessageType], shapes: Mapping[Any, Shape]
    ) -> None:
        #: The content of the registry with the additions.
        self.by_type = dict(by_type)
        self.by_name = dict(by_name)
        self.shapes = dict(shapes)
        self._schemas: dict[type, Schema] = {}
        self._deriver = Deriver(self.shapes, self._schema_of)

    def add(self, cls: type, options: MessageOptions) -> MessageType:
        """
        Add a class, and the class of its response.

        Raises:
            RegistrationError: The class cannot be registered; the text names the class and the field.
        """
        label = default_name(cls)
        kind = _kind(cls, label)
        name = check_name(label if options.name is None else options.name, label)
        aliases = tuple(check_name(alias, label) for alias in options.aliases)
        if options.schema is not None:
            self._schemas[cls] = schema_instance(options.schema, cls, label)
        field = self._field_of(cls, label, kind)
        schema = field.schema if isinstance(field, SchemaField) else self._deriver.shape(cls).schema()
        _check_key(cls, schema, options.key, label)
        response: dict[str, Any] = {}
        if kind is MessageKind.REQUEST:
            response = self._response(cls, options, label, (name, *aliases))
        elif options.response_name is not None:
            raise RegistrationError(f"{label}: response_name: only a request has a response; leave the option out")
        response_codec = response.get("response_codec")
        idempotent = issubclass(cls, Query) if options.idempotent is None else options.idempotent
        entry = MessageType(
            cls=cls,
            name=name,
            aliases=aliases,
            kind=kind,
            schema=schema,
            codec=Codec(field, label, nullable=kind is MessageKind.DATA),
            idempotent=kind is MessageKind.REQUEST and idempotent,
            route=options.route,
            key=options.key,
            remote=options.remote,
            contract=contract(field, None if response_codec is None else response_codec.field),
            **response,
        )
        self._add_names(entry)
        self.by_type[cls] = entry
        return entry

    def _add_names(self, entry: MessageType) -> None:
        for name in (entry.name, *entry.aliases):
            for spelling in (name, short_name(name)):
                other = self.by_name.setdefault(spelling, entry)
                if other.cls is not entry.cls:
                    raise RegistrationError(
                        f"{name!r} is the name of two classes, {_where(other.cls)} and {_where(entry.cls)}; "
                        "give one of them another name with @message(name=...)"
                    )

    def _schema_of(self, cls: type) -> Schema | None:
        """Return the instance of the user's schema for a class, always the same one, or None."""
        if cls not in self._schemas:
            known = self.by_type.get(cls)
            if known is not None:
                return known.schema if isinstance(known.codec.field, SchemaField) else None
            given = options_of(cls).schema
            if given is None:
                return None
            self._schemas[cls] = schema_instance(given, cls, default_name(cls))
        return self._schemas[cls]

    def _field_of(self, cls: type, label: str, kind: MessageKind) -> StrictField:
        schema = self._schema_of(cls)
        if schema is not None:
            return SchemaField(schema, cls)
        if not dataclasses.is_dataclass(cls):
            what = "class" if kind is MessageKind.DATA else f"{kind.name.lower()} class"
            raise RegistrationError(
                f"{label}: this {what} is not a dataclass; add @dataclass(frozen=True) or give @message(schema=...)"
            )
        return ShapeField(self._deriver.shape(cls))

    def _response(
        self, cls: type, options: MessageOptions, label: str, request_names: tuple[str, ...]
    ) -> dict[str, Any]:
        """Return the attributes of ``MessageType`` that describe the response of a request."""
        annotation = response_annotation(cls)
        scope = Scope(cls, f"{label}: response")
        core, nullable = scope.unwrap(annotation)
        response = _class_of(core)
        if options.response_schema is not None:
            # A response that is a list, a dict and the like is what the schema itself loads.
            made = None if response is None or response.__module__ == "builtins" else response
            schema = schema_instance(options.response_schema, made, scope.place)
            field: StrictField = SchemaField(schema, made)
        else:
            if response is not None and self._is_message(response):
                self.add(response, options_of(response))
            field = self._deriver.field(annotation, scope)
        text = self._text_of(core, scope)  # without Optional, which is no part of the name
        form = DotnetNames(request_names, self._given_names, scope).form(annotation)
        # An assembly in the name of the request means that .NET has to find the type of the response as well.
        name = form.text if split_assembly(request_names[0])[1] else text
        if options.response_name is not None:
            name = check_name(options.response_name, label, "response_name")
        elif len(name) > MAX_NAME:
            raise RegistrationError(
                f"{scope.place}: its name on the wire would have {len(name)} characters, at most {MAX_NAME} are "
                "allowed; give a shorter one with @message(response_name=...)"
            )
        names = (name, text) if response is None else (name, text, *self._given_names(response))
        may_be_none = nullable or field.allow_none or core is Any or core is None or core is type(None)
        return {
            "response_type": annotation,
            "response_name": name,
            "response_names": frozenset(both for each in names for both in (each, short_name(each))),
            "response_form": form,
            "response_codec": Codec(field, text, nullable=may_be_none),
            "response_check": _check_of(core),
        }

    def _is_message(self, response: type) -> bool:
        """Return whether the class of a response is to be registered with its request."""
        if issubclass(response, (Request, Event)) or response in self.by_type:
            return False
        if options_of(response).schema is not None:
            return True
        # A generic class without its parameters has no fixed shape; deriving the field raises the right error.
        return dataclasses.is_dataclass(response) and not getattr(response, "__parameters__", ())

    def _given_names(self, cls: type) -> tuple[str, ...]:
        """Return the names that were given to a class, the one that is sent first."""
        known = self.by_type.get(cls)
        options = options_of(cls)
        name, aliases = (options.name, options.aliases) if known is None else (known.name, known.aliases)
        return aliases if name is None or name == default_name(cls) else (name, *aliases)

    def _name_of(self, cls: type) -> str:
        known = self.by_type.get(cls)
        if known is not None:
            return known.name
        given = options_of(cls).name
        if given is not None:
            return given
        return cls.__qualname__ if cls.__module__ in _PLAIN_MODULES else default_name(cls)

    def _text_of(self, annotation: Any, scope: Scope) -> str:
        """Return a readable text for an annotation, the same in every process."""
        annotation, nullable = scope.unwrap(annotation)
        if annotation is Any:
            return "any"
        if annotation is None or annotation is type(None):
            return "none"
        origin, args = get_origin(annotation), get_args(annotation)
        if origin is typing.Literal:
            text = f"Literal[{', '.join(map(repr, args))}]"
        elif origin is not None:
            parts = ["..." if arg is ... else self._text_of(arg, scope) for arg in args]
            text = f"{'Union' if is_union(origin) else self._name_of(origin)}[{', '.join(parts)}]"
        else:
            text = self._name_of(annotation) if isinstance(annotation, type) else str(annotation)
        return f"Optional[{text}]" if nullable else text


_PLAIN_MODULES = ("builtins", "datetime", "decimal", "uuid")


def _kind(cls: type, label: str) -> MessageKind:
    if issubclass(cls, Request) and issubclass(cls, Event):
        raise RegistrationError(f"{label}: is both a Request and an Event; make it one of them")
    if issubclass(cls, Request):
        return MessageKind.REQUEST
    return MessageKind.EVENT if issubclass(cls, Event) else MessageKind.DATA


def _check_key(cls: type, schema: Schema, key: str | None, label: str) -> None:
    if key is None:
        return
    if dataclasses.is_dataclass(cls):
        names = [field.name for field in dataclasses.fields(cls)]
    else:
        names = [field.attribute or name for name, field in schema.fields.items()]
    if key not in names:
        raise RegistrationError(f"{label}: key: {key!r} is not one of its fields, which are: {', '.join(names)}")


def _class_of(core: Any) -> type | None:
    # Any is a class since Python 3.11, and list[int] is an instance of type in Python 3.10.
    plain = isinstance(core, type) and get_origin(core) is None and core not in (Any, type(None))
    return core if plain else None


def _check_of(core: Any) -> tuple[type, ...] | None:
    if core is float:
        return (float, int)
    if core is None or core is type(None):
        return (type(None),)
    origin = get_origin(core)
    cls = _class_of(core) or origin
    return (cls,) if isinstance(cls, type) and not is_union(origin) else None


def _where(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
