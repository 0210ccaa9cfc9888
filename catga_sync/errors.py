"""Everything this library raises, and the codes a result can carry.

    CatgaError                      the one root
    |-- ConfigurationError          an option is wrong; the text starts with its name
    |   `-- NodeIdTaken             another live node has this node_id
    |-- RegistrationError           a message type, handler or subscriber cannot be registered
    |-- UnknownTypeError            a type name or class is not in the registry
    `-- CallError                   a call failed; raised by ``CatgaResult.unwrap``
        |-- NetworkError            no answer from a node: nobody there, cut off, refused, too busy
        |   `-- DeadlineExceeded    ... because the time was up
        |-- SerializationError      a request or an answer that cannot be written or read
        |-- NoHandlerError          nobody handles this type
        |-- AccessDenied            the node does not let this caller in
        `-- BusinessError           the handler ran and said no
            `-- HandlerFailed       the handler ran and raised

Rules of this file:
1. Standard library only; nothing here imports another module of the package.
2. A handler may raise any ``CallError`` to answer with a text and a code of its choice. The text of every
   other exception stays in the log of the node that ran it.
3. Codes are gRPC's (https://grpc.io/docs/guides/status-codes/), and so are their meanings.
"""

from __future__ import annotations

import enum
from typing import Any

__all__ = [
    "AccessDenied",
    "BusinessError",
    "CallError",
    "CatgaError",
    "ConfigurationError",
    "DeadlineExceeded",
    "Delivery",
    "ErrorCode",
    "HandlerFailed",
    "NetworkError",
    "NoHandlerError",
    "NodeIdTaken",
    "RegistrationError",
    "SerializationError",
    "UnknownTypeError",
    "parse_code",
]


@enum.unique
class Delivery(enum.Enum):
    """What is known about whether the handler ran. Decided by evidence, never by an exception's class."""

    #: The handler ran and this is its answer.
    EXECUTED = "EXECUTED"
    #: Proven: the handler did not run for this call.
    NOT_EXECUTED = "NOT_EXECUTED"
    #: It may have run once; nobody here can tell.
    UNKNOWN = "UNKNOWN"


@enum.unique
class ErrorCode(enum.Enum):
    """gRPC's canonical status codes, by name."""

    #: The caller gave up.
    CANCELLED = "CANCELLED"
    #: The handler raised an error that is not a ``CallError``.
    UNKNOWN = "UNKNOWN"
    #: The request, its payload or its response type does not fit the registered contract.
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    #: The time was up before an answer came.
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    #: Something that was asked for does not exist.
    NOT_FOUND = "NOT_FOUND"
    #: Something that was to be made exists already.
    ALREADY_EXISTS = "ALREADY_EXISTS"
    #: The caller is known and may not do this.
    PERMISSION_DENIED = "PERMISSION_DENIED"
    #: A size, concurrency or rate limit was hit.
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    #: The system is not in a state in which this can be done.
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    #: Two calls got in each other's way; start again from the top.
    ABORTED = "ABORTED"
    #: Past the end of something.
    OUT_OF_RANGE = "OUT_OF_RANGE"
    #: No handler for this type, or a type nobody knows.
    UNIMPLEMENTED = "UNIMPLEMENTED"
    #: A fault of the system itself: an answer that cannot be written or read.
    INTERNAL = "INTERNAL"
    #: No node could be reached.
    UNAVAILABLE = "UNAVAILABLE"
    #: Data are lost or spoilt for good.
    DATA_LOSS = "DATA_LOSS"
    #: The caller did not prove who it is.
    UNAUTHENTICATED = "UNAUTHENTICATED"


_CODES_BY_NAME = {member.name: member for member in ErrorCode}


#: Characters of a code of the application's own.
MAX_CODE = 128


def parse_code(code: object) -> ErrorCode | str | None:
    """
    Return a code as results carry it: an ``ErrorCode``, the application's own text, or None.

    The name of an ``ErrorCode`` becomes that member. What is no text becomes one, an enum's member its name, since a
    code travels as text; it is cut to 128 characters.
    """
    if code is None or isinstance(code, ErrorCode):
        return code
    if isinstance(code, str):
        text = str(code.value) if isinstance(code, enum.Enum) else code
    else:
        text = code.name if isinstance(code, enum.Enum) else str(code)
    known = _CODES_BY_NAME.get(text)
    if known is not None or (len(text) <= MAX_CODE and text.isprintable()):
        return known or text
    # Fit for a line of a log, here as over the wire.
    return "".join(char if char.isprintable() else "?" for char in text[:MAX_CODE])


class CatgaError(Exception):
    """Root of every error of this library."""


class ConfigurationError(CatgaError, ValueError):
    """An option is wrong. The text starts with the option's name and says what to write."""


class NodeIdTaken(ConfigurationError):
    """Another live node, at another endpoint, is in the cluster under this node's id."""

    def __init__(self, node_id: str, endpoint: str) -> None:
        super().__init__(f"node_id: {node_id!r} is taken by the node at {endpoint}; give every node an id of its own")
        self.node_id = node_id
        self.endpoint = endpoint

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.node_id, self.endpoint))


class RegistrationError(CatgaError, TypeError):
    """A message type, a handler or a subscriber cannot be registered as it is."""


class UnknownTypeError(CatgaError, LookupError):
    """A type name or class was looked up and is not in the registry."""


class CallError(CatgaError):
    """
    A call failed. Raised by ``CatgaResult.unwrap``; raise one in a handler to answer with its text and code.

    Args:
        message:
            The text that the caller may see.

        code:
            An ``ErrorCode`` or a string of the application's own. None means the class's default.

        delivery:
            What is known about execution. Filled in by ``unwrap``; a handler need not give it.

        result:
            The ``CatgaResult`` that ``unwrap`` was called on, or None.

    .. versionadded:: 0.1
    """

    default_code: ErrorCode = ErrorCode.UNKNOWN

    def __init__(
        self,
        message: str = "",
        *,
        code: ErrorCode | str | None = None,
        delivery: Delivery | None = None,
        result: Any = None,
    ) -> None:
        super().__init__(message)
        self.code: ErrorCode | str = self.default_code if code is None else (parse_code(code) or "")
        self.delivery = delivery
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), str(self), self.code, self.delivery, self.result))


def _rebuild(
    cls: type[CallError], message: str, code: ErrorCode | str, delivery: Delivery | None, result: Any
) -> CallError:
    return cls(message, code=code, delivery=delivery, result=result)


class NetworkError(CallError):
    """No answer from a node: none there, unreachable, cut off, or too busy."""

    default_code = ErrorCode.UNAVAILABLE


class DeadlineExceeded(NetworkError):
    """The time of the call was up."""

    default_code = ErrorCode.DEADLINE_EXCEEDED


class SerializationError(CallError):
    """A request or an answer could not be written or read."""

    default_code = ErrorCode.INVALID_ARGUMENT


class NoHandlerError(CallError):
    """Nobody handles this type of message."""

    default_code = ErrorCode.UNIMPLEMENTED


class AccessDenied(CallError):
    """The node does not let this caller in."""

    default_code = ErrorCode.PERMISSION_DENIED


class BusinessError(CallError):
    """The handler ran and said no. The one to raise for an expected failure."""

    default_code = ErrorCode.FAILED_PRECONDITION


class HandlerFailed(BusinessError):
    """The handler ran and raised an error whose text stays in its node's log."""

    default_code = ErrorCode.UNKNOWN
