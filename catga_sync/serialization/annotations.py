"""Resolves the annotations of classes: forward references, type variables and aliases.

Rules of this file:
1. Each field is resolved alone and in the module of the class that declares it, so that one annotation that cannot be
   resolved does not affect another, and a base class may be in another module.
2. The names of the module, and built-in names, come before those of the class: in ``date: date = None`` the annotation
   is the type.
3. Annotations are the program's own text and never come from the wire.
"""

from __future__ import annotations

import builtins
import inspect
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ForwardRef, TypeVar, get_args, get_origin

from catga_sync.errors import RegistrationError
from catga_sync.messages import Request
from catga_sync.serialization.typenames import default_name

__all__ = ["Scope", "annotation_of", "bases_of", "is_union", "response_annotation"]

#: Steps from an alias to what it stands for; only an alias of itself needs more.
_MAX_ALIASES = 64


def is_union(origin: object) -> bool:
    """Return whether ``get_origin`` returned this for a union, written as ``Union[X, Y]`` or as ``X | Y``."""
    return origin is typing.Union or origin is types.UnionType


@dataclass(frozen=True)
class Scope:
    """Where an annotation is written. Immutable."""

    cls: type
    #: The class and field, for an error.
    place: str
    #: The values of the type variables of ``cls``.
    arguments: Mapping[Any, Any] = field(default_factory=dict)
    #: The module in which names are looked up before that of the class, for the value of an alias from there.
    module: str | None = None

    def unwrap(self, annotation: Any) -> tuple[Any, bool]:
        """
        Return an annotation without Annotated, NewType, ``type X = ...`` and Optional, and whether it allows None.

        Raises:
            RegistrationError: See ``resolve``.
        """
        scope, nullable = self, False
        for _ in range(_MAX_ALIASES):
            annotation = scope.resolve(annotation)
            origin, args = get_origin(annotation), get_args(annotation)
            alias = annotation if origin is None else origin
            if origin is typing.Annotated:
                annotation = args[0]
            elif isinstance(annotation, typing.NewType):
                scope, annotation = replace(scope, module=annotation.__module__), annotation.__supertype__
            elif type(alias).__name__ == "TypeAliasType":  # Python 3.12, or typing_extensions
                arguments = {**scope.arguments, **dict(zip(alias.__type_params__, args, strict=False))}
                scope = replace(scope, module=alias.__module__, arguments=arguments)
                annotation = scope._value_of(alias)
            elif is_union(origin):
                others = [part for part in args if part is not type(None)]
                if len(others) != 1 or len(others) == len(args):
                    return annotation, nullable
                annotation, nullable = others[0], True
            else:
                return annotation, nullable
        raise RegistrationError(f"{self.place}: {annotation!r} is an alias of itself; write the type that is meant")

    def _value_of(self, alias: Any) -> Any:
        try:
            return alias.__value__
        except Exception as exc:  # the value of an alias is evaluated on first use
            raise self._unresolved(alias, exc) from exc

    def resolve(self, annotation: Any) -> Any:
        """
        Return an annotation with forward references and type variables replaced at its outermost level.

        Raises:
            RegistrationError: A name is not defined in the module, or a type variable has no value.
        """
        if isinstance(annotation, (str, ForwardRef, types.GenericAlias)) or get_origin(annotation) is not None:
            annotation = self._evaluate(annotation)
        return self._substitute(annotation)

    def _evaluate(self, annotation: Any) -> Any:
        holder = types.SimpleNamespace(__annotations__={"it": annotation})
        try:
            # The empty locals make ForwardRef evaluate again. It caches its value otherwise, and ``Optional["Node"]``
            # is the same object in every module that writes it.
            names = _namespace(self.cls) if self.module is None else _namespace(self.cls) | _names_of(self.module)
            found = typing.get_type_hints(holder, names, {}, include_extras=True)["it"]
        except Exception as exc:
            raise self._unresolved(annotation, exc) from exc
        # Python 3.10 does not evaluate the text in ``list["Node"]``.
        if isinstance(found, types.GenericAlias):
            parts = found.__args__
            if any(isinstance(part, (str, types.GenericAlias)) for part in parts):
                done = tuple(self._evaluate(p) if isinstance(p, (str, types.GenericAlias)) else p for p in parts)
                origin: Any = found.__origin__
                return origin[done]
        return found

    def _unresolved(self, annotation: Any, exc: Exception) -> RegistrationError:
        if not isinstance(exc, NameError):
            return RegistrationError(f"{self.place}: cannot resolve {annotation!r} ({type(exc).__name__}: {exc})")
        return RegistrationError(
            f"{self.place}: cannot resolve {annotation!r} ({exc}); import the name at the top of module "
            f"{(self.module or self.cls.__module__)!r}, outside of TYPE_CHECKING and of functions"
        )

    def _substitute(self, annotation: Any) -> Any:
        if isinstance(annotation, TypeVar):
            if annotation not in self.arguments:
                raise RegistrationError(
                    f"{self.place}: the type variable {annotation} has no value here; write the class with its "
                    "parameter, as in Page[User]"
                )
            return self.arguments[annotation]
        parameters = getattr(annotation, "__parameters__", ())
        if parameters and get_origin(annotation) is not None:
            return annotation[tuple(self._substitute(parameter) for parameter in parameters)]
        return annotation


def _namespace(cls: type) -> dict[str, Any]:
    names: dict[str, Any] = {base.__name__: base for base in cls.__mro__}
    names.update({parameter.__name__: parameter for parameter in getattr(cls, "__type_params__", ())})
    names.update(vars(cls))
    names[cls.__name__] = cls
    names.update(vars(builtins))  # in ``str: str = ""``, too, the annotation is the type
    names.update(_names_of(cls.__module__))
    names["__builtins__"] = builtins
    return names


def _names_of(module: str) -> dict[str, Any]:
    return vars(sys.modules[module]) if module in sys.modules else {}


def annotation_of(cls: type, name: str, annotation: Any, place: str, arguments: Mapping[Any, Any]) -> Any:
    """
    Return the resolved annotation of a dataclass field.

    Args:
        cls: The dataclass.
        name: The name of the field, which may be inherited.
        annotation: The value of ``dataclasses.Field.type``.
        place: The class and field, for an error.
        arguments: The values of the type variables of ``cls``.

    Raises:
        RegistrationError: The annotation cannot be resolved.
    """
    owner = next((base for base in cls.__mro__ if name in inspect.get_annotations(base)), cls)
    for base, found in bases_of(cls, arguments, place):
        if base is owner:
            return Scope(owner, place, found).resolve(annotation)
    return Scope(owner, place).resolve(annotation)


def bases_of(cls: type, arguments: Mapping[Any, Any], place: str) -> Iterator[tuple[type, Mapping[Any, Any]]]:
    """Yield the class and all its bases, each with the values of its type variables."""
    yield cls, arguments
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        if origin in (typing.Generic, typing.Protocol, object) or not isinstance(origin, type):
            continue
        parameters = getattr(origin, "__parameters__", ())
        values: dict[Any, Any] = {}
        for parameter, value in zip(parameters, get_args(base), strict=False):
            # In ``class Base(Request[T])`` used without a parameter T has no value; an error only where it is needed.
            if not _is_open(value, arguments):
                values[parameter] = Scope(cls, place, arguments).resolve(value)
        yield from bases_of(origin, values, place)


def _is_open(value: Any, arguments: Mapping[Any, Any]) -> bool:
    parameters = (value,) if isinstance(value, TypeVar) else getattr(value, "__parameters__", ())
    return any(parameter not in arguments for parameter in parameters)


def response_annotation(cls: type) -> Any:
    """
    Return the parameter of ``Request[...]`` in the bases of a request class; ``Any`` for a bare ``Request``.

    Raises:
        RegistrationError: The annotation cannot be resolved.
    """
    for base, arguments in bases_of(cls, {}, f"{default_name(cls)}: response"):
        if base is Request:
            for value in arguments.values():
                return type(None) if value is None else value
    return Any
