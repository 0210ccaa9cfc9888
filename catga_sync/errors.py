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

import dataclasses
import enum
import functools
import signal
import threading
import traceback
from types import CodeType
from typing import Any, TypeVar

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
    "ends_process",
    "parse_code",
]


E = TypeVar("E", bound="CallError")


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
    # A subclass of str may do anything where a str is used, and the wire carries none.
    text = str.__str__(text)
    known = _CODES_BY_NAME.get(text)
    if known is not None or (len(text) <= MAX_CODE and text.isprintable()):
        return known or text
    # Fit for a line of a log, here as over the wire.
    return "".join(char if char.isprintable() else "?" for char in text[:MAX_CODE])


def ends_process(exc: BaseException) -> bool:
    """
    Return whether the server has raised an exception to end its process, so that it has to go through to the server.

    Servers raise from their signal handlers, in the middle of whatever the main thread runs. What the application's
    code raises itself ends its call and nothing else, whatever it is: ``SystemExit``, ``asyncio.CancelledError`` and
    ``GeneratorExit`` too.
    """
    if isinstance(exc, Exception):
        return False
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    if (
        isinstance(exc, KeyboardInterrupt)
        and signal.default_int_handler in handlers  # written in C, it has no frame in the traceback
        and threading.current_thread() is threading.main_thread()
    ):
        return True
    codes = {_code_of(handler) for handler in handlers if callable(handler)} - {None}
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(exc.__traceback__))


def _code_of(handler: Any) -> CodeType | None:
    """Return the code that runs when a signal handler is called; None for one that is written in C."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    code = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
    return code if isinstance(code, CodeType) else None


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

    A subclass may be a dataclass, or have an ``__init__`` that does not call this one:

        @dataclass
        class OutOfStock(BusinessError):
            sku: str
            code = "shop.out_of_stock"

    The text of a dataclass is made of its fields (``OutOfStock: sku='A-1'``, without those of ``repr=False``), unless
    the class has a ``__str__`` of its own. A class attribute ``code`` is the code of its instances.

    Args:
        message:
            The text that the caller may see.

        code:
            An ``ErrorCode`` or a string of the application's own. None means the class's: ``code`` if it has one,
            else ``default_code``.

        delivery:
            What is known about execution. Filled in by ``unwrap``; a handler need not give it.

        result:
            The ``CatgaResult`` that ``unwrap`` was called on, or None.

    .. versionadded:: 0.1
    """

    default_code: ErrorCode = ErrorCode.UNKNOWN

    code: ErrorCode | str
    delivery: Delivery | None
    result: Any
    #: Whether ``__init__`` was called, so that its argument is the text.
    _has_message = False

    def __new__(cls: type[E], *args: Any, **_named: Any) -> E:
        """Set what stays unset when a subclass has an ``__init__`` that does not call this class's."""
        self = super().__new__(cls, *args)
        self.__dict__.update(delivery=None, result=None)  # setattr() fails where a dataclass is frozen
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
        """Return the message; where none was given, the fields of a dataclass, the arguments, or the class's name."""
        if self._has_message:
            return super().__str__()
        fields = _fields_of(self)
        if fields is None:
            return super().__str__() or type(self).__name__
        shown = [f"{each.name}={getattr(self, each.name)!r}" for each in fields if each.repr]
        return f"{type(self).__name__}: {', '.join(shown)}" if shown else type(self).__name__

    def __reduce__(self) -> tuple[Any, ...]:
        state = dict(vars(self))
        # With slots=True the fields of a dataclass are not in vars().
        state.update((each.name, getattr(self, each.name)) for each in _fields_of(self) or ())
        return (_rebuild, (type(self), self.args, state))


def _fields_of(error: Any) -> tuple[dataclasses.Field[Any], ...] | None:
    """Return the fields of an error, or None when its class is no dataclass."""
    return dataclasses.fields(error) if dataclasses.is_dataclass(error) else None


def _rebuild(cls: type[CallError], args: tuple[Any, ...], state: dict[str, Any]) -> CallError:
    error = cls.__new__(cls, *args)  # its __init__ may take anything
    for name, value in state.items():
        object.__setattr__(error, name, value)  # it may be frozen
    return error


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
