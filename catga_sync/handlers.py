"""What is read off a handler when it is registered: its callable, the message it takes, the answer it gives."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

from catga_sync.errors import RegistrationError
from catga_sync.results import CatgaResult
from catga_sync.serialization import MessageType
from catga_sync.serialization.hints import Scope, is_union

__all__ = ["check_return_annotation", "first_parameter", "handler_function"]


def handler_function(handler: Any) -> Callable[[Any], Any]:
    """Return what to call for a handler: its ``handle`` method if it has one, else the handler itself."""
    if inspect.isclass(handler):
        raise RegistrationError(f"handler: give an instance, {handler.__name__}(...), not the class")
    method = getattr(handler, "handle", None)
    if callable(method):
        handler = method
    if not callable(handler):
        raise RegistrationError(f"handler: give a function or an object with handle(request), not {handler!r}")
    if inspect.iscoroutinefunction(_called(handler)):
        raise RegistrationError(f"handler: {_name(handler)} is async; handlers are plain functions that block")
    return typing.cast("Callable[[Any], Any]", handler)


def first_parameter(function: Callable[..., Any], base: type, instead: str, depth: int = 0) -> type:
    """
    Return the class that the first parameter of ``function`` is annotated with.

    Raises:
        RegistrationError: There is no such annotation, or it is no subclass of ``base``. ``instead`` says what to
            write when the annotation cannot be read. ``depth`` counts the frames from the caller of this function to
            the one whose local names an annotation may use.
    """
    target = handler_function(function)
    try:
        given = inspect.signature(target).parameters.values()
    except (TypeError, ValueError) as exc:
        raise RegistrationError(f"{_name(function)}: its parameters cannot be read; use {instead}") from exc
    # What a partial has given by name can only be given by name, and so can all that comes after it.
    parameters = [each for each in given if each.kind is not each.KEYWORD_ONLY]
    if not parameters:
        raise RegistrationError(f"{_name(function)}: it takes no parameter; write def f(request: The{base.__name__})")
    annotation = _annotation(target, parameters[0].name, instead, depth)
    if not (isinstance(annotation, type) and issubclass(annotation, base)):
        raise RegistrationError(
            f"{_name(function)}: annotate its first parameter, {parameters[0].name!r}, with a subclass of "
            f"{base.__name__}, or use {instead}"
        )
    return annotation


def check_return_annotation(function: Callable[[Any], Any], entry: MessageType) -> None:
    """
    Refuse a handler whose return annotation contradicts the request's response type.

    Only a plain class that has nothing to do with the response class is refused; everything finer is left to
    the check of the answer itself.
    """
    if entry.response_check is None:
        return
    try:
        annotation, _ = Scope(entry.cls, _name(function)).unwrap(typing.get_type_hints(_called(function))["return"])
    except Exception:
        # An annotation for type checkers only (TYPE_CHECKING imports) is no reason to refuse the handler.
        return
    origin = typing.get_origin(annotation)
    returns = origin or annotation  # in Python 3.10 list[int] is an instance of type, and no class
    if not isinstance(returns, type) or is_union(origin):
        return
    if returns in (Any, object, type(None)) or issubclass(returns, CatgaResult):
        return
    kinds = entry.response_check
    if not any(issubclass(returns, kind) or issubclass(kind, returns) for kind in kinds):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise RegistrationError(
            f"{_name(function)} returns {returns.__name__}, but {entry.name} is answered with {expected}"
        )


def _annotation(function: Callable[..., Any], parameter: str, instead: str, depth: int) -> Any:
    called = _called(function)
    raw = getattr(called, "__annotations__", {}).get(parameter)
    if not isinstance(raw, str):
        return raw
    try:
        return typing.get_type_hints(called)[parameter]
    except Exception as first:
        # `from __future__ import annotations` with a class that is local to the function calling @handler, or a
        # return annotation that only type checkers can see.
        frame = sys._getframe(depth + 2)
        scope = {**getattr(called, "__globals__", {}), **frame.f_locals}
        found = scope.get(raw)
        if found is None:
            raise RegistrationError(
                f"{_name(function)}: the annotation {raw!r} of {parameter!r} cannot be resolved; use {instead}"
            ) from first
        return found


def _called(function: Any) -> Any:
    """Return what runs when ``function`` is called, whose annotations count: what is in a partial, or ``__call__``."""
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
