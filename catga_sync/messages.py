"""The messages: what is asked, what is announced, and what a class cannot say of itself.

@dataclass(frozen=True)
class GetUser(Query[User]):
    user_id: str
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from catga_sync.errors import RegistrationError

__all__ = ["MAX_NAME", "Event", "MessageOptions", "Query", "Request", "message", "options_of"]

#: Characters in the longest type name that is registered, sent or read. .NET's have those of the parameters in them,
#: each with its assembly.
MAX_NAME = 1024

TResponse = TypeVar("TResponse")
C = TypeVar("C", bound=type)


class Request(Generic[TResponse]):
    """
    Base of every request. Its parameter is the type of the answer.

    A request may have side effects, so it is never sent again when it may have run. ``Request`` without a
    parameter answers with plain JSON data: None, bool, int, float, str, and lists and dicts of them.

    ``None`` is an answer of ``Request[None]``, ``Request[Optional[User]]`` and ``Request`` only. For any other type it
    is a failure, INTERNAL, since the handler has most likely forgotten to return something.

    .. versionadded:: 0.1
    """

    __slots__ = ()


class Query(Request[TResponse]):
    """
    A request that may safely run twice: it may be sent to another node when the first gave no answer.

    .. versionadded:: 0.1
    """

    __slots__ = ()


class Event:
    """
    Base of every event: something that happened, told to all subscribers, answered by none.

    .. versionadded:: 0.1
    """

    __slots__ = ()


@dataclass(frozen=True)
class MessageOptions:
    """What ``@message`` was given for one class. None means "not said". Immutable."""

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
    Say of a class what the class itself cannot. For requests, responses and events.

    Args:
        name:
            The type name on the wire. None means ``module.QualName`` (``__main__`` becomes what others import).
            May be a .NET assembly-qualified name; it is then also found by its ``Namespace.Type`` part.

        aliases:
            Further names under which the type is accepted.

        schema:
            The marshmallow schema (class or instance) of this class. None means: derive one from the dataclass.

        response_name:
            The type name of the answer on the wire, for an answer that has no class to be named (``Query[list[X]]``)
            or whose .NET type is another than the usual one (``IReadOnlyList`1[[...]]``). None means: that of the
            class of the answer, or one made of the annotation.

        response_schema:
            The marshmallow schema of the answer. None means: that of the response type.

        idempotent:
            Whether the request may run twice. None means: a ``Query`` may, any other ``Request`` may not.

        route:
            Name of the routing strategy for this type. None means: the cluster's.

        key:
            Name of the field that consistent hashing uses. None means: no key.

        remote:
            False keeps the type on its node: it is neither sent to nor accepted from another one.

    Raises:
        RegistrationError: The aliases are one string. What else is wrong is found when the class is registered.

    .. versionadded:: 0.1
    """
    if isinstance(name, type):
        raise RegistrationError("message: write @message() with brackets, or leave it away")
    if isinstance(aliases, str):
        raise RegistrationError(f"aliases: give a list or tuple of names, not the string {aliases!r}")
    options = MessageOptions(
        name=name,
        aliases=tuple(aliases),
        schema=schema,
        response_name=response_name,
        response_schema=response_schema,
        idempotent=idempotent,
        route=route,
        key=key,
        remote=remote,
    )

    def decorate(cls: C) -> C:
        setattr(cls, _ATTRIBUTE, options)
        return cls

    return decorate


def options_of(cls: type) -> MessageOptions:
    """Return what ``@message`` said of this very class; a subclass does not inherit names."""
    options = cls.__dict__.get(_ATTRIBUTE)
    return options if isinstance(options, MessageOptions) else MessageOptions()
