"""The base classes of messages, and the decorator for their options.

@dataclass(frozen=True)
class GetUser(Query[User]):
    user_id: str
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from catga_sync.errors import RegistrationError

__all__ = [
    "MAX_NAME",
    "Event",
    "MessageOptions",
    "Query",
    "Request",
    "message",
    "options_of",
    "require_event",
    "require_request",
]

#: Characters of a type name that is registered, sent or read. .NET's names include those of the type parameters, each
#: with its assembly.
MAX_NAME = 1024

T = TypeVar("T")
TResponse = TypeVar("TResponse")
C = TypeVar("C", bound=type)


class Request(Generic[TResponse]):
    """
    Base of every request. Its parameter is the type of the response.

    A request may have side effects, so it is never sent again if it may have run. The response of a ``Request`` without
    a parameter is plain JSON data: None, bool, int, float, str, and lists and dicts of them.

    ``None`` is a response of ``Request[None]``, ``Request[Optional[User]]`` and ``Request`` only. For any other type it
    is a failure with the code INTERNAL: usually a forgotten ``return``.

    .. versionadded:: 0.1
    """

    __slots__ = ()


class Query(Request[TResponse]):
    """
    A request that may run twice: it may be sent to another node if the first one did not respond.

    .. versionadded:: 0.1
    """

    __slots__ = ()


class Event:
    """
    Base of every event: it is sent to all subscribers and has no response.

    .. versionadded:: 0.1
    """

    __slots__ = ()


@dataclass(frozen=True)
class MessageOptions:
    """The options of ``@message`` for one class. None means "not given". Immutable."""

    name: str | None = None
    aliases: tuple[str, ...] = ()
    schema: Any = None
    response_name: str | None = None
    response_schema: Any = None
    idempotent: bool | None = None
    route: str | None = None
    key: str | None = None
    remote: bool = True


_ATTRIBUTE = "__catga_message__"


def message(
    name: str | None = None,
    aliases: Iterable[str] = (),
    schema: Any = None,
    response_name: str | None = None,
    response_schema: Any = None,
    idempotent: bool | None = None,
    route: str | None = None,
    key: str | None = None,
    remote: bool = True,
) -> Callable[[C], C]:
    """
    Return a class decorator that sets the options of a request, a response or an event.

    Args:
        name: The type name on the wire. None means ``module.QualName``, where ``__main__`` becomes the name by which
            other processes import the module. A .NET assembly-qualified name is found by its ``Namespace.Type`` part as
            well.
        aliases: Further names by which the type is accepted.
        schema: The marshmallow schema (class or instance) of this class. None derives one from the dataclass.
        response_name: The type name of the response on the wire, for a response without a class of its own
            (``Query[list[X]]``) or with an unusual .NET type (``IReadOnlyList`1[[...]]``). None means the name of the
            response class, or one made from the annotation.
        response_schema: The marshmallow schema of the response. None means that of the response type.
        idempotent: Whether the request may run twice. None means True for a ``Query`` and False for any other
            ``Request``.
        route: The name of the routing strategy for this type. None means the cluster's.
        key: The name of the field that consistent hashing uses. None means no key.
        remote: False keeps the type on its node: it is neither sent to nor accepted from other nodes.

    Raises:
        RegistrationError: The decorator is used without parentheses, or the aliases are one string. Other mistakes are
            found when the class is registered.

    .. versionadded:: 0.1
    """
    if isinstance(name, type):
        raise RegistrationError("message: write @message() with parentheses, or leave it out")
    if isinstance(aliases, str):
        raise RegistrationError(f"aliases: give a list or tuple of names, not the string {aliases!r}")
    options = MessageOptions(
        name, tuple(aliases), schema, response_name, response_schema, idempotent, route, key, remote
    )

    def decorate(cls: C) -> C:
        setattr(cls, _ATTRIBUTE, options)
        return cls

    return decorate


def options_of(cls: type) -> MessageOptions:
    """Return the options that ``@message`` set on this class; subclasses do not inherit them."""
    options = cls.__dict__.get(_ATTRIBUTE)
    return options if isinstance(options, MessageOptions) else MessageOptions()


@overload
def require_request(request: Request[T]) -> Request[T]: ...
@overload
def require_request(request: object) -> Request[Any]: ...
def require_request(request: object) -> Request[Any]:
    """Return ``request``, or raise ``TypeError`` when it is none."""
    if isinstance(request, Request):
        return request
    if isinstance(request, type) and issubclass(request, Request):
        raise TypeError(f"request: send an instance, {request.__name__}(...), not the class")
    if isinstance(request, Event):
        raise TypeError(f"request: {type(request).__name__} is an Event; use publish(event)")
    raise TypeError(f"request: {type(request).__name__} is no subclass of catga_sync.Request")


def require_event(event: object) -> Event:
    """Return ``event``, or raise ``TypeError`` when it is none."""
    if isinstance(event, Event):
        return event
    raise TypeError(f"event: {type(event).__name__} is no subclass of catga_sync.Event")
