"""From a class to its ``MessageType``: what is checked once, so that no call has to.

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
from catga_sync.serialization.contract import contract, fingerprint
from catga_sync.serialization.derive import Deriver
from catga_sync.serialization.dotnet import DotnetNames, Form
from catga_sync.serialization.fields.base import StrictField
from catga_sync.serialization.fields.foreign import SchemaField, schema_instance
from catga_sync.serialization.fields.object import Shape, ShapeField
from catga_sync.serialization.message_type import MessageKind, MessageType
from catga_sync.serialization.typenames import MAX_NAME, check_name, default_name, short_name, split_assembly

__all__ = ["Draft"]


class Draft:
    """
    A registration under way. Not thread-safe; one for each call of ``register``.

    Args:
        by_type, by_name, shapes:
            What the registry has already; not changed.
    """

    def __init__(
        self, by_type: Mapping[type, MessageType], by_name: Mapping[str, MessageType], shapes: Mapping[Any, Shape]
    ) -> None:
        self._known_types = by_type
        self._known_names = by_name
        #: What was added.
        self.by_type: dict[type, MessageType] = {}
        self.by_name: dict[str, MessageType] = {}
        self.shapes: dict[Any, Shape] = dict(shapes)
        self._schemas: dict[type, Schema] = {}
        self._deriver = Deriver(self.shapes, self._schema_of)

    def add(self, cls: type, options: MessageOptions) -> MessageType:
        """
        Enter a class, and the class of its answer.

        Raises:
            RegistrationError: Something about it is wrong; the text names the class and the field.
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
        response = _Response()
        if kind is MessageKind.REQUEST:
            response = self._response(cls, options, label, (name, *aliases))
        elif options.response_name is not None:
            raise RegistrationError(f"{label}: response_name: only a request has a response; leave it away")
        idempotent = issubclass(cls, Query) if options.idempotent is None else options.idempotent
        entry = MessageType(
            cls=cls,
            name=name,
            aliases=aliases,
            kind=kind,
            schema=schema,
            codec=Codec(field, label, nullable=kind is MessageKind.DATA),
            response_name=response.name,
            response_codec=response.codec,
            response_type=response.annotation,
            response_check=response.check,
            idempotent=kind is MessageKind.REQUEST and idempotent,
            route=options.route,
            key=options.key,
            remote=options.remote,
            fingerprint=fingerprint(field, response.codec.field if response.codec else None),
            contract=contract(field, response.codec.field if response.codec else None),
            response_names=frozenset(both for each in response.names for both in (each, short_name(each))),
            response_form=response.form,
        )
        self._enter(entry)
        return entry

    def _enter(self, entry: MessageType) -> None:
        for name in (entry.name, *entry.aliases):
            for spelling in (name, short_name(name)):
                other = self.by_name.get(spelling) or self._known_names.get(spelling)
                if other is not None and other.cls is not entry.cls:
                    raise RegistrationError(
                        f"{name!r} is the name of two classes, {_where(other.cls)} and {_where(entry.cls)}; "
                        "give one of them another with @message(name=...)"
                    )
                self.by_name[spelling] = entry
        self.by_type[entry.cls] = entry

    def _known(self, cls: type) -> MessageType | None:
        return self.by_type.get(cls) or self._known_types.get(cls)

    def _schema_of(self, cls: type) -> Schema | None:
        """Return the user's own schema of a class, or None. Each class has one instance."""
        if cls not in self._schemas:
            known = self._known(cls)
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
                f"{label}: this {what} is no dataclass; add @dataclass(frozen=True) or give @message(schema=...)"
            )
        return ShapeField(self._deriver.shape(cls))

    def _response(self, cls: type, options: MessageOptions, label: str, request_names: tuple[str, ...]) -> _Response:
        annotation = response_annotation(cls)
        scope = Scope(cls, f"{label}: response")
        core, nullable = scope.unwrap(annotation)
        answer = _class_of(core)
        if options.response_schema is not None:
            # Of a list, a dict and the like the schema's own result is the answer.
            made = None if answer is None or answer.__module__ == "builtins" else answer
            schema = schema_instance(options.response_schema, made, scope.place)
            field: StrictField = SchemaField(schema, made)
        else:
            if answer is not None and self._is_message(answer):
                self.add(answer, options_of(answer))
            field = self._deriver.field(annotation, scope)
        text = self._text_of(core, scope)  # without Optional: any answer may be nothing
        form = DotnetNames(request_names, self._given_names, scope).form(annotation)
        # A request with an assembly in its name is one for .NET, which has to find the type of the answer, too.
        name = form.text if split_assembly(request_names[0])[1] else text
        if options.response_name is not None:
            name = check_name(options.response_name, label, "response_name")
        elif len(name) > MAX_NAME:
            raise RegistrationError(
                f"{scope.place}: its name on the wire would have {len(name)} characters, and may have {MAX_NAME}; give "
                "a shorter one with @message(response_name=...)"
            )
        names = (name, text) if answer is None else (name, text, *self._given_names(answer))
        nothing = nullable or field.allow_none or core is Any or core is None or core is type(None)
        return _Response(annotation, name, names, form, Codec(field, text, nullable=nothing), _check_of(core))

    def _is_message(self, answer: type) -> bool:
        """Return whether the class of an answer is to be registered with its request."""
        if issubclass(answer, (Request, Event)) or self._known(answer) is not None:
            return False
        if options_of(answer).schema is not None:
            return True
        # An open generic has no one shape; deriving the field says what is wrong with it.
        return dataclasses.is_dataclass(answer) and not getattr(answer, "__parameters__", ())

    def _given_names(self, cls: type) -> tuple[str, ...]:
        """Return the names that a class was given, the one that is sent first."""
        known = self._known(cls)
        options = options_of(cls)
        name, aliases = (options.name, options.aliases) if known is None else (known.name, known.aliases)
        return aliases if name is None or name == default_name(cls) else (name, *aliases)

    def _name_of(self, cls: type) -> str:
        known = self._known(cls)
        if known is not None:
            return known.name
        given = options_of(cls).name
        if given is not None:
            return given
        return cls.__qualname__ if cls.__module__ in _PLAIN_MODULES else default_name(cls)

    def _text_of(self, annotation: Any, scope: Scope) -> str:
        """Return one readable text for an annotation; the same in every process."""
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


@dataclasses.dataclass(frozen=True)
class _Response:
    """What a request says of its answer; as it stands, of one that has none."""

    annotation: Any = None
    name: str = ""
    names: tuple[str, ...] = ()
    form: Form | None = None
    codec: Codec | None = None
    check: tuple[type, ...] | None = None


def _kind(cls: type, label: str) -> MessageKind:
    if issubclass(cls, Request) and issubclass(cls, Event):
        raise RegistrationError(f"{label}: is a Request and an Event; make it one of them")
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
        raise RegistrationError(f"{label}: key: {key!r} is none of its fields, which are: {', '.join(names)}")


def _class_of(core: Any) -> type | None:
    # Any is a class since Python 3.11, list[int] looked like one before.
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
