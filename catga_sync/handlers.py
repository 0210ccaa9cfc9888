"""Checks a handler at registration: its callable, its parameters, and the types in its annotations."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

from catga_sync.errors import RegistrationError
from catga_sync.messages import Event, Query, Request
from catga_sync.results import CatgaResult
from catga_sync.serialization import MessageType
from catga_sync.serialization.annotations import Scope, is_union

__all__ = [
    "NO_FUNCTION",
    "Handles",
    "RequestHandler",
    "check_function",
    "check_message_class",
    "check_return_annotation",
    "first_parameter",
    "handler_function",
]

T = typing.TypeVar("T")
T_co = typing.TypeVar("T_co", covariant=True)


class Handles(typing.Protocol[T_co]):
    """A handler that is an object: what ``register`` takes beside a function."""

    @property
    def handle(self) -> Callable[[Any], T_co]:
        """Handle a request; return the response or a ``CatgaResult``, or raise."""


#: A handler of a request with the response type T, for type checkers. The type of the request cannot be told from it.
RequestHandler = Callable[[Any], T | CatgaResult[T]] | Handles[T | CatgaResult[T]]

#: The default of the function in ``@mediator.handler()``.
NO_FUNCTION: Any = object()

#: Parameters that may be left empty.
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
#: Annotations that are classes, at least on some versions of Python, and allow values of any class.
_ANY_CLASS = (Any, object, types.UnionType)
#: The classes of plain JSON data, the response of a request without a response type.
_PLAIN = (type(None), bool, int, float, str, list, tuple, dict)


def _is_message(given: object) -> bool:
    return isinstance(given, type) and issubclass(given, (Request, Event))


def check_message_class(given: Any, base: type[Request[Any]] | type[Event], option: str) -> None:
    """Refuse anything but a subclass of ``base``; for a message of the other kind, name the right call."""
    if isinstance(given, type) and issubclass(given, base):
        return
    hint = ""
    if _is_message(given):
        other = "subscribe" if base is Request else "register"
        hint = f"; use mediator.{other}({given.__name__}, function)"
    raise RegistrationError(f"{option}: give a subclass of {base.__name__}, not {given!r}{hint}")


def handler_function(handler: Any) -> Callable[[Any], Any]:
    """Return the function of a handler: its ``handle`` method if it has one, otherwise the handler itself."""
    method = None if inspect.isclass(handler) else getattr(handler, "handle", None)
    return check_function(method if callable(method) else handler)


def check_function(handler: Any) -> Callable[[Any], Any]:
    """Return a function that can be called as a handler, with the request alone; refuse anything else."""
    if inspect.isclass(handler):
        raise RegistrationError(f"handler: give an instance, {handler.__name__}(...), not the class")
    if not callable(handler):
        raise RegistrationError(f"handler: give a function or an object with handle(request), not {handler!r}")
    if inspect.iscoroutinefunction(_called(handler)):
        raise RegistrationError(f"handler: {_name(handler)} is async; handlers are plain functions that block")
    _check_parameters(handler)
    return typing.cast("Callable[[Any], Any]", handler)


def _check_parameters(handler: Any) -> None:
    """Refuse a function that cannot be called with the request alone."""
    try:
        # Not the wrapped function: a decorator may add arguments.
        signature = inspect.signature(handler, follow_wrapped=False)
    except (TypeError, ValueError):  # written in C without a signature
        return
    try:
        signature.bind(None)
    except TypeError as exc:
        given = list(signature.parameters.values())
        taking = next((each for each in given if each.kind not in (each.KEYWORD_ONLY, each.VAR_KEYWORD)), None)
        if taking is None:
            raise RegistrationError(f"{_name(handler)}: it takes no parameter; write def f(request)") from exc
        more = [
            each.name
            for each in given
            if each is not taking and each.default is each.empty and each.kind not in _VARIABLE
        ]
        cure = f"give it a default, or bind it with functools.partial(function, {more[0]}=...)"
        if taking.name == "self":
            cure = "give the method of an instance"
        text = f"it is called with the request alone and needs {', '.join(map(repr, more))} too; {cure}"
        raise RegistrationError(f"{_name(handler)}: {text}") from exc


def first_parameter(
    function: Callable[..., Any], base: type[Request[Any]] | type[Event], instead: str, depth: int = 0
) -> Any:
    """
    Return the class in the annotation of the first parameter of a function.

    Args:
        function: The handler or subscriber.
        base: ``Request`` or ``Event``.
        instead: The call to name in an error if the annotation cannot be used.
        depth: The number of frames from the caller of this function to the one whose local names an annotation may use.

    Raises:
        RegistrationError: There is no such annotation, or it is not a subclass of ``base``.
    """
    used, other = ("subscriber", "handler") if base is Event else ("handler", "subscriber")
    if function is NO_FUNCTION:
        raise RegistrationError(f"{used}: leave the parentheses out: write @mediator.{used} above the function")
    if _is_message(function):
        raise RegistrationError(
            f"{used}: write @mediator.{used} above the function, whose annotation names {function.__name__}"
        )
    target = handler_function(function)
    try:
        given = inspect.signature(target).parameters.values()
    except (TypeError, ValueError) as exc:
        raise RegistrationError(f"{_name(function)}: its parameters cannot be read; use {instead}") from exc
    # A parameter that a partial binds by name, and all that follow it, can only be given by name.
    parameters = [each for each in given if each.kind is not each.KEYWORD_ONLY]
    if not parameters:
        raise RegistrationError(f"{_name(function)}: it takes no parameter; write def f(request: The{base.__name__})")
    annotation = _annotation(target, parameters[0].name, instead, depth)
    if not (isinstance(annotation, type) and issubclass(annotation, base)):
        hint = ""
        if _is_message(annotation):
            hint = f"; {annotation.__name__} belongs to a {other}: write @mediator.{other}"
        raise RegistrationError(
            f"{_name(function)}: annotate its first parameter, {parameters[0].name!r}, with a subclass of "
            f"{base.__name__}, or use {instead}{hint}"
        )
    return annotation


def check_return_annotation(function: Callable[[Any], Any], entry: MessageType) -> None:
    """
    Refuse a handler whose return annotation contradicts the response type of the request.

    Only a plain class unrelated to the response class is refused. The check of each response does the rest.
    """
    try:
        annotation, _ = Scope(entry.cls, _name(function)).unwrap(typing.get_type_hints(_called(function))["return"])
    except Exception:
        # The names in an annotation may be defined for type checkers only (TYPE_CHECKING).
        return
    if entry.response_check is None:
        if entry.response_type is Any and entry.remote:
            _check_plain(function, annotation, entry)
        return
    origin = typing.get_origin(annotation)
    returns = origin or annotation  # on Python 3.10 list[int] is an instance of type, but not a class
    if not isinstance(returns, type) or is_union(origin):
        return
    if returns in (*_ANY_CLASS, type(None)) or issubclass(returns, CatgaResult):
        return
    if not _is_related(returns, entry.response_check):
        expected = " or ".join(kind.__name__ for kind in entry.response_check)
        raise RegistrationError(
            f"{_name(function)} returns {returns.__name__}, but the response type of {entry.name} is {expected}"
        )


def _check_plain(function: Callable[[Any], Any], annotation: Any, entry: MessageType) -> None:
    """Refuse a handler that returns a class if the request has no response type."""
    for part in (typing.get_origin(annotation) or annotation, *typing.get_args(annotation)):
        is_class = isinstance(part, type) and typing.get_origin(part) is None
        if not is_class or part in _ANY_CLASS or issubclass(part, CatgaResult) or _is_related(part, _PLAIN):
            continue
        base = "Query" if issubclass(entry.cls, Query) else "Request"
        text = annotation.__name__ if annotation is part else str(annotation)
        raise RegistrationError(
            f"{_name(function)} returns {part.__name__}, but {entry.name} has no response type, which means plain JSON "
            f"data; write class {entry.cls.__name__}({base}[{text}])"
        )


def _is_related(returns: type, kinds: tuple[type, ...]) -> bool:
    """Return whether a value may be an instance of this class and of one of those."""
    try:
        return any(issubclass(returns, kind) or issubclass(kind, returns) for kind in kinds)
    except TypeError:  # issubclass() does not accept a Protocol or a TypedDict
        return True


def _annotation(function: Callable[..., Any], parameter: str, instead: str, depth: int) -> Any:
    called = _called(function)
    raw = getattr(called, "__annotations__", {}).get(parameter)
    if not isinstance(raw, str):
        return raw
    try:
        return typing.get_type_hints(called)[parameter]
    except Exception as first:
        # `from __future__ import annotations` with a class that is local to the function calling @handler, or with a
        # return annotation for type checkers only.
        frame = sys._getframe(depth + 2)
        scope = {**getattr(called, "__globals__", {}), **frame.f_locals}
        found = scope.get(raw)
        if found is None:
            raise RegistrationError(
                f"{_name(function)}: the annotation {raw!r} of {parameter!r} cannot be resolved; use {instead}"
            ) from first
        return found


def _called(function: Any) -> Any:
    """Return the function that runs when a callable is called: that inside a partial or wrapper, or ``__call__``."""
    while True:
        function = inspect.unwrap(function)
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(type(function).__call__, types.FunctionType):
            function = type(function).__call__
        else:
            return function


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)
