"""All exceptions of this library, and the codes of results.

    CatgaError                      the one root
    |-- ConfigurationError          an option is wrong; the text starts with its name
    |   `-- NodeIdTaken             another live node has this node_id
    |-- RegistrationError           a message type, handler or subscriber cannot be registered
    |-- UnknownTypeError            a type name or class is not in the registry
    `-- CallError                   a call failed; raised by ``CatgaResult.unwrap``
        |-- NetworkError            no response from a node: unreachable, connection lost, refused, too busy
        |   `-- DeadlineExceeded    no response before the deadline
        |-- SerializationError      a request or a response cannot be written or read
        |-- NoHandlerError          no node handles this type
        |-- AccessDenied            the node refuses this caller
        `-- BusinessError           the handler ran and refused the request
            `-- HandlerFailed       the handler ran and raised

Rules of this file:
1. Standard library only; nothing here imports another module of the package.
2. A handler may raise any ``CallError`` to respond with a text and a code of its choice. The text of every
   other exception stays in the log of the node that ran the handler.
3. The codes and their meanings are gRPC's (https://grpc.io/docs/guides/status-codes/).
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import signal
import threading
import traceback
from types import CodeType
from typing import Any, TypeVar

from catga_sync._text_enum import TextEnum

__all__ = [
    "HTTP_STATUSES",
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
    "ends_process",
    "error_class",
    "parse_code",
]


E = TypeVar("E", bound="CallError")


@enum.unique
class Delivery(TextEnum):
    """Whether the handler ran. Decided by evidence, never by the class of an exception."""

    #: The handler ran and this is its response.
    EXECUTED = "EXECUTED"
    #: It is proven that the handler did not run for this call.
    NOT_EXECUTED = "NOT_EXECUTED"
    #: The handler may have run once.
    UNKNOWN = "UNKNOWN"


@enum.unique
class ErrorCode(TextEnum):
    """gRPC's canonical status codes, by name."""

    #: The caller gave up.
    CANCELLED = "CANCELLED"
    #: The handler raised an error that is not a ``CallError``.
    UNKNOWN = "UNKNOWN"
    #: The request, its payload or its response type does not fit the registered contract.
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    #: The deadline passed before a response came.
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    #: A requested object does not exist.
    NOT_FOUND = "NOT_FOUND"
    #: An object to be created exists already.
    ALREADY_EXISTS = "ALREADY_EXISTS"
    #: The caller is known and may not do this.
    PERMISSION_DENIED = "PERMISSION_DENIED"
    #: A size, concurrency or rate limit was reached.
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    #: The system is not in the required state.
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    #: Two calls were in conflict; start the whole operation again.
    ABORTED = "ABORTED"
    #: Past the end of something.
    OUT_OF_RANGE = "OUT_OF_RANGE"
    #: There is no handler for this type, or the type is unknown.
    UNIMPLEMENTED = "UNIMPLEMENTED"
    #: A fault of the system itself, such as a response that cannot be written or read.
    INTERNAL = "INTERNAL"
    #: No node could be reached.
    UNAVAILABLE = "UNAVAILABLE"
    #: Data is lost or corrupted for good.
    DATA_LOSS = "DATA_LOSS"
    #: The caller did not prove its identity.
    UNAUTHENTICATED = "UNAUTHENTICATED"


_CODES_BY_NAME = {member.name: member for member in ErrorCode}


#: Characters of an application's own code.
MAX_CODE = 128


def parse_code(code: object) -> ErrorCode | str | None:
    """
    Return the code of a result: an ``ErrorCode``, the application's own text, or None.

    The name of an ``ErrorCode`` becomes that member. Other values become text, as they would on the wire: an enum's
    member its name, everything else ``str()`` of it. The text is cut to 128 characters.
    """
    if code is None or isinstance(code, ErrorCode):
        return code
    if isinstance(code, str):
        text = str(code.value) if isinstance(code, enum.Enum) else code
    else:
        text = code.name if isinstance(code, enum.Enum) else str(code)
    # A subclass of str may override anything, and does not survive the wire.
    text = str.__str__(text)
    known = _CODES_BY_NAME.get(text)
    if known is not None or (len(text) <= MAX_CODE and text.isprintable()):
        return known or text
    # A code has to fit into a line of a log.
    return "".join(char if char.isprintable() else "?" for char in text[:MAX_CODE])


def ends_process(exc: BaseException) -> bool:
    """
    Return whether the server raised an exception to end its process, so that it has to reach the server.

    Servers raise from their signal handlers, at any point of the main thread's code. An exception that the application
    raises itself ends its call only, whatever its class: ``SystemExit``, ``asyncio.CancelledError`` and
    ``GeneratorExit`` as well.
    """
    if isinstance(exc, Exception):
        return False
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    if (
        isinstance(exc, KeyboardInterrupt)
        and signal.default_int_handler in handlers  # written in C, so it has no frame in the traceback
        and threading.current_thread() is threading.main_thread()
    ):
        return True
    codes = {_code_of(handler) for handler in handlers if callable(handler)} - {None}
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(exc.__traceback__))


def _code_of(handler: Any) -> CodeType | None:
    """Return the code object of a signal handler; None if it is written in C."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    code = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
    return code if isinstance(code, CodeType) else None


class CatgaError(Exception):
    """Root of every error of this library."""


class ConfigurationError(CatgaError, ValueError):
    """An option is wrong. The text starts with the name of the option and has the cure."""


class NodeIdTaken(ConfigurationError):
    """Another live node, at another endpoint, has this node's id."""

    def __init__(self, node_id: str, endpoint: str) -> None:
        super().__init__(f"node_id: {node_id!r} is taken by the node at {endpoint}; give every node an id of its own")
        self.node_id = node_id
        self.endpoint = endpoint

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.node_id, self.endpoint))


class RegistrationError(CatgaError, TypeError):
    """A message type, a handler or a subscriber cannot be registered."""


class UnknownTypeError(CatgaError, LookupError):
    """A type name or class is not in the registry."""


class CallError(CatgaError):
    """
    A call failed. Raised by ``CatgaResult.unwrap``; a handler raises it to respond with its text and code.

    A subclass may be a dataclass, or have an ``__init__`` that does not call the one here:

        @dataclass
        class OutOfStock(BusinessError):
            sku: str
            code = "shop.out_of_stock"

    The text of a dataclass is made of its fields (``OutOfStock: sku='A-1'``, without fields of ``repr=False``), unless
    the class defines ``__str__``. A class attribute ``code`` is the code of all instances.

    Args:
        message: The text for the caller.
        code: An ``ErrorCode`` or a string of the application's own. None means the ``code`` of the class, or its
            ``default_code``.
        delivery: Whether the handler ran. Set by ``unwrap``; handlers leave it out.
        result: The ``CatgaResult`` that ``unwrap`` was called on; otherwise None.

    .. versionadded:: 0.1
    """

    default_code: ErrorCode = ErrorCode.UNKNOWN

    code: ErrorCode | str
    delivery: Delivery | None
    result: Any
    #: Whether ``__init__`` of this class was called, so that its argument is the text.
    _has_message = False

    def __new__(cls: type[E], *args: Any, **_named: Any) -> E:
        """Set the attributes that an ``__init__`` of a subclass may leave unset."""
        self = super().__new__(cls, *args)
        self.__dict__.update(delivery=None, result=None)  # setattr() fails for a frozen dataclass
        if not hasattr(cls, "code"):
            self.__dict__["code"] = cls.default_code
        return self

    def __init__(
        self,
        message: str = "",
        *,
        code: ErrorCode | str | None = None,
        delivery: Delivery | None = None,
        result: Any = None,
    ) -> None:
        super().__init__(message)
        self.__dict__.update(delivery=delivery, result=result, _has_message=True)
        if code is not None:
            self.code = parse_code(code) or ""

    def __str__(self) -> str:
        """Return the message; if there is none, the fields of a dataclass, the arguments, or the name of the class."""
        if self._has_message:
            return super().__str__()
        fields = _fields_of(self)
        if fields is None:
            return super().__str__() or type(self).__name__
        shown = [f"{each.name}={getattr(self, each.name)!r}" for each in fields if each.repr]
        return f"{type(self).__name__}: {', '.join(shown)}" if shown else type(self).__name__

    def __reduce__(self) -> tuple[Any, ...]:
        state = dict(vars(self))
        # The fields of a dataclass with slots=True are not in vars().
        state.update((each.name, getattr(self, each.name)) for each in _fields_of(self) or ())
        return (_rebuild, (type(self), self.args, state))


def _fields_of(error: Any) -> tuple[dataclasses.Field[Any], ...] | None:
    """Return the fields of an error, or None if its class is not a dataclass."""
    return dataclasses.fields(error) if dataclasses.is_dataclass(error) else None


def _rebuild(cls: type[CallError], args: tuple[Any, ...], state: dict[str, Any]) -> CallError:
    error = cls.__new__(cls, *args)  # its __init__ may require any arguments
    for name, value in state.items():
        object.__setattr__(error, name, value)  # it may be frozen
    return error


class NetworkError(CallError):
    """No response from a node: there is none, or it is unreachable, cut off or too busy."""

    default_code = ErrorCode.UNAVAILABLE


class DeadlineExceeded(NetworkError):
    """The deadline of the call passed."""

    default_code = ErrorCode.DEADLINE_EXCEEDED


class SerializationError(CallError):
    """A request or a response could not be written or read."""

    default_code = ErrorCode.INVALID_ARGUMENT


class NoHandlerError(CallError):
    """No node handles this type of message."""

    default_code = ErrorCode.UNIMPLEMENTED


class AccessDenied(CallError):
    """The node refuses this caller."""

    default_code = ErrorCode.PERMISSION_DENIED


class BusinessError(CallError):
    """The handler ran and refused the request. Handlers raise it for an expected failure."""

    default_code = ErrorCode.FAILED_PRECONDITION


class HandlerFailed(BusinessError):
    """The handler ran and raised an exception whose text stays in the log of its node."""

    default_code = ErrorCode.UNKNOWN


#: As in the gateway of gRPC, https://github.com/grpc-ecosystem/grpc-gateway (runtime/errors.go).
HTTP_STATUSES = {
    ErrorCode.CANCELLED: 499,
    ErrorCode.UNKNOWN: 500,
    ErrorCode.INVALID_ARGUMENT: 400,
    ErrorCode.DEADLINE_EXCEEDED: 504,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.ALREADY_EXISTS: 409,
    ErrorCode.PERMISSION_DENIED: 403,
    ErrorCode.RESOURCE_EXHAUSTED: 429,
    ErrorCode.FAILED_PRECONDITION: 400,
    ErrorCode.ABORTED: 409,
    ErrorCode.OUT_OF_RANGE: 400,
    ErrorCode.UNIMPLEMENTED: 501,
    ErrorCode.INTERNAL: 500,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.DATA_LOSS: 500,
    ErrorCode.UNAUTHENTICATED: 401,
}
_EXECUTED_CLASSES: dict[ErrorCode | str | None, type[CallError]] = {
    ErrorCode.UNKNOWN: HandlerFailed,
    ErrorCode.INTERNAL: SerializationError,
}
_ERROR_CLASSES: dict[ErrorCode | str | None, type[CallError]] = {
    ErrorCode.UNAVAILABLE: NetworkError,
    ErrorCode.RESOURCE_EXHAUSTED: NetworkError,
    ErrorCode.CANCELLED: NetworkError,
    ErrorCode.ABORTED: NetworkError,
    ErrorCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    ErrorCode.INVALID_ARGUMENT: SerializationError,
    ErrorCode.INTERNAL: SerializationError,
    ErrorCode.DATA_LOSS: SerializationError,
    ErrorCode.UNIMPLEMENTED: NoHandlerError,
    ErrorCode.UNAUTHENTICATED: AccessDenied,
    ErrorCode.PERMISSION_DENIED: AccessDenied,
}


def error_class(code: ErrorCode | str | None, delivery: Delivery) -> type[CallError]:
    """Return the class of the error that fits a failure."""
    if delivery is Delivery.EXECUTED:
        return _EXECUTED_CLASSES.get(code, BusinessError)
    return _ERROR_CLASSES.get(code, CallError)
