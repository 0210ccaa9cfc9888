"""The names that .NET has for the type of a response, including types without a class of their own.

    System.Int32
    Acme.User[], Acme.Users, Version=1.0.0.0
    System.Collections.Generic.List`1[[Acme.User, Acme.Users, Version=1.0.0.0]], System.Private.CoreLib

A received name is split into its parts and compared with the annotation, part by part. A name to send is made from
the annotation. A class without a .NET name of its own is assumed to be in the namespace and assembly of the request, as
message contracts usually are.

Rule of this file: a name is text, as in ``typenames.py``. It is compared and never looked up.
"""

from __future__ import annotations

import enum
import re
import typing
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, get_args, get_origin
from uuid import UUID

from catga_sync.serialization.annotations import Scope
from catga_sync.serialization.jsonscan import MAX_DEPTH
from catga_sync.serialization.typenames import short_name, split_assembly

__all__ = ["DotnetNames", "Form", "parse_name"]


class Name(NamedTuple):
    """A type name in its parts, without assemblies. The head of an array is ``[]``."""

    head: str
    arguments: tuple[Name, ...] = ()


_TOKENS = re.compile(r"\[\]|[\[\],]|[^\[\],]+")
_NULLABLE = "System.Nullable`1"
#: Base64 text in JSON, unlike other arrays.
_BYTES = "System.Byte[]"


def parse_name(name: str) -> Name | None:
    """Return the parts of a .NET name in any of its forms, or None if it is not such a name."""
    tokens = [token.strip() for token in _TOKENS.findall(short_name(name))]
    tokens = [token for token in reversed(tokens) if token]
    try:
        found = _read(tokens, 0)
    except (IndexError, ValueError):
        return None
    return None if tokens else found


def _read(tokens: list[str], depth: int) -> Name:
    head = tokens.pop()
    if head in ("[", "]", ",", "[]") or depth > MAX_DEPTH:
        raise ValueError(head)
    arguments = []
    if tokens and tokens[-1] == "[":
        separator = tokens.pop()
        while separator != "]":
            # [[Type, Assembly],[Type, Assembly]] in a full name, [Type,Type] in the result of ToString()
            bracketed = tokens[-1] == "["
            if bracketed:
                tokens.pop()
            arguments.append(_read(tokens, depth + 1))
            if bracketed and tokens.pop() != "]":
                raise ValueError(head)
            separator = tokens.pop()
            if separator not in (",", "]"):
                raise ValueError(head)
    name = arguments[0] if head == _NULLABLE and len(arguments) == 1 else Name(head, tuple(arguments))
    while tokens and tokens[-1] == "[]":
        tokens.pop()
        name = Name(_BYTES) if name == Name("System.Byte") else Name("[]", (name,))
    return name


@dataclass(frozen=True)
class Form:
    """The names of one annotation. Immutable."""

    #: The name that is sent.
    text: str
    #: The heads that are accepted; None accepts every name of the ``System`` namespaces.
    heads: frozenset[str] | None
    arguments: tuple[Form, ...] = ()
    #: Whether it is a value type, for which .NET has another type that allows null.
    is_value: bool = False

    def fits(self, name: Name) -> bool:
        """Return whether a name means this annotation."""
        if self.heads is None:
            return name.head == "[]" or name.head.startswith("System.")
        return (
            name.head in self.heads
            and len(name.arguments) == len(self.arguments)
            and all(form.fits(argument) for form, argument in zip(self.arguments, name.arguments, strict=True))
        )


def _system(*names: str, is_value: bool = True) -> Form:
    heads = [f"System.{name}" for name in names]
    return Form(heads[0], frozenset(heads), is_value=is_value)


_ANYTHING = Form("System.Object", None)
_SCALARS: dict[Any, Form] = {
    str: _system("String", "Char", "Uri", is_value=False),
    int: _system("Int32", "Int64", "Int16", "SByte", "Byte", "UInt16", "UInt32", "UInt64"),
    float: _system("Double", "Single", "Half"),
    bool: _system("Boolean"),
    bytes: Form(_BYTES, frozenset([_BYTES])),
    Decimal: _system("Decimal"),
    datetime: _system("DateTime", "DateTimeOffset"),
    date: _system("DateOnly", "DateTime"),
    time: _system("TimeOnly"),
    timedelta: _system("TimeSpan"),
    UUID: _system("Guid"),
    None: _system("Object", "Void", is_value=False),
    type(None): _system("Object", "Void", is_value=False),
    Any: _ANYTHING,
}
_GENERIC = "System.Collections.Generic"


def _collections(arity: int, **names: str) -> frozenset[str]:
    """Return the heads of generic collections, given by namespace."""
    return frozenset(
        f"System.Collections.{namespace}.{name}`{arity}" for namespace in names for name in names[namespace].split()
    )


_SEQUENCES = frozenset(["[]"]) | _collections(
    1,
    Generic="List IList ICollection IEnumerable IReadOnlyList IReadOnlyCollection HashSet ISet IReadOnlySet SortedSet "
    "LinkedList Queue",
    Immutable="ImmutableArray ImmutableList IImmutableList ImmutableHashSet",
    ObjectModel="Collection ReadOnlyCollection",
    Frozen="FrozenSet",
)
_DICTIONARIES = _collections(
    2,
    Generic="Dictionary IDictionary IReadOnlyDictionary SortedDictionary",
    Immutable="ImmutableDictionary IImmutableDictionary",
    ObjectModel="ReadOnlyDictionary",
    Frozen="FrozenDictionary",
    Concurrent="ConcurrentDictionary",
)


class DotnetNames:
    """
    Makes the .NET names for the response of one request. Not thread-safe; used during registration.

    Args:
        request_names: The name of the request and its aliases. A class without a .NET name gets their namespaces and
            assemblies, that of the first one when sent.
        given_names: Returns the names that were given to a class; empty if it has the default name only.
        scope: Where the annotation of the response is written.
    """

    def __init__(
        self, request_names: Sequence[str], given_names: Callable[[type], tuple[str, ...]], scope: Scope
    ) -> None:
        self._places = [_place_of(name) for name in request_names]
        self._given_names = given_names
        self._scope = scope

    def form(self, annotation: Any, depth: int = 0) -> Form:
        """Return the names of an annotation."""
        annotation, nullable = self._scope.unwrap(annotation)
        form = _ANYTHING if depth > MAX_DEPTH else self._form(annotation, depth + 1)
        return replace(form, text=f"{_NULLABLE}[[{form.text}]]") if nullable and form.is_value else form

    def _form(self, annotation: Any, depth: int) -> Form:
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is typing.Literal:
            kinds = {type(value) for value in arguments if value is not None}
            return _SCALARS.get(kinds.pop(), _ANYTHING) if len(kinds) == 1 else _ANYTHING
        if origin is None and isinstance(annotation, Hashable) and annotation in _SCALARS:
            return _SCALARS[annotation]
        kind = annotation if origin is None else origin
        if kind is tuple and not (len(arguments) == 2 and arguments[1] is ...):
            return Form("System.Object[]", _SEQUENCES, (_ANYTHING,))
        if kind in (list, tuple, set, frozenset):
            item = self.form(arguments[0], depth) if arguments else _ANYTHING
            head = "HashSet" if kind in (set, frozenset) else "List"
            return Form(f"{_GENERIC}.{head}`1[[{item.text}]]", _SEQUENCES, (item,))
        if kind is dict:
            parts = tuple(self.form(part, depth) for part in arguments or (str, Any))
            texts = ",".join(f"[{part.text}]" for part in parts)
            return Form(f"{_GENERIC}.Dictionary`2[{texts}]", _DICTIONARIES, parts)
        if isinstance(kind, type):
            return self._class_form(kind, tuple(self.form(part, depth) for part in arguments))
        return Form("System.Object", frozenset())

    def _class_form(self, cls: type, arguments: tuple[Form, ...]) -> Form:
        given = self._given_names(cls)
        name = cls.__qualname__.rpartition("<locals>.")[2].replace(".", "+")
        name += f"`{len(arguments)}" if arguments else ""
        derived = [f"{namespace}{name}{assembly}" for namespace, assembly in self._places]
        # .NET finds a class by a name with an assembly. A name without one is for other nodes.
        text, *_ = [each for each in given if split_assembly(each)[1]] or derived
        if arguments:
            head, assembly = split_assembly(text)
            text = f"{head}[{','.join(f'[{part.text}]' for part in arguments)}]{assembly}"
        heads = frozenset(short_name(each) for each in (*given, *derived))
        return Form(text, heads, arguments, is_value=issubclass(cls, enum.Enum))


def _place_of(name: str) -> tuple[str, str]:
    """Return the namespace of a type with its dot, and the assembly with its comma; each may be empty."""
    head, assembly = split_assembly(name)
    namespace, dot, _ = re.split(r"[\[+]", head)[0].rpartition(".")
    return namespace + dot, assembly
