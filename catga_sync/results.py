"""The typed result of one call: success or failure, and whether the handler ran."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar, cast

from catga_sync._json_data import json_data
from catga_sync._request_id import new_request_id
from catga_sync.errors import HTTP_STATUSES, CallError, Delivery, ErrorCode, error_class, parse_code

__all__ = ["INSIDE", "NEVER", "OTHER_NODE", "RETRY", "Attempt", "CatgaResult", "expired_before_start", "succeeded"]

T = TypeVar("T")
S = TypeVar("S")

#: An entry in the ``metadata`` of a failure: whether another attempt may help, whatever the code: at another node only,
#: or never. Without it the code decides. A plain request that may have run is not sent again in either case.
RETRY, OTHER_NODE, NEVER = "catga.retry", "other-node", "never"
#: An entry in the ``metadata`` of a failure whose text has details of this process's environment, such as addresses of
#: nodes or the path of a store. The text is for the caller in this process: if a handler returns the failure to its own
#: caller, the text is left out.
INSIDE = "catga.inside"

#: Held while a result gets its id, so that two threads that read it at once see the same one.
_naming = threading.Lock()
_NOTHING: MappingProxyType[str, Any] = MappingProxyType({})
#: Stands for an attribute that stays as it is.
_KEPT: Any = object()
#: To look up the member of an Enum takes a quarter of the time in which a result is made.
_EXECUTED = Delivery.EXECUTED


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at one node, in ``CatgaResult.attempts``. Immutable."""

    node_id: str
    #: Seconds.
    elapsed: float
    delivery: Delivery
    #: None if the attempt succeeded.
    code: ErrorCode | str | None = None
    error: str | None = None


class _Cells:
    """
    The attributes of a result while they are set.

    A ``CatgaResult`` refuses assignment, and ``object.__setattr__`` would cost 1.5 us for ten attributes, three times
    the budget of a whole local send. So a result is filled as this plain class, and the last step sets its class.
    """

    __slots__ = (
        "_attempts",
        "_request_id",
        "code",
        "delivery",
        "error",
        "is_success",
        "metadata",
        "node_id",
        "processing_time_ms",
        "value",
    )

    is_success: bool
    value: Any
    error: str | None
    code: ErrorCode | str | None
    delivery: Delivery
    node_id: str | None
    processing_time_ms: float
    metadata: MappingProxyType[str, Any]
    #: A number stands for one attempt at ``node_id``, whose seconds it is: made when it is read.
    _attempts: tuple[Attempt, ...] | float
    _request_id: str | _Named | None


class _Named(Protocol):
    """A call, whose id is made when it is read."""

    @property
    def request_id(self) -> str: ...


class CatgaResult(_Cells, Generic[T]):
    """
    The result of one call. Immutable, thread-safe; made with ``success`` or ``failure``.

    Attributes:
        is_success: True if the handler ran and returned a response.
        value: The typed response. None on failure, and as the response of types that allow it.
        error: A readable text, or None on success.
        code: An ``ErrorCode``, the application's own string, or None on success.
        delivery: Whether the handler ran.
        request_id: 32 hex digits; made on first use for a local call.
        node_id: The node that processed the call, or None.
        processing_time_ms: Milliseconds that the node took, with behaviours around its handler and the check of values.
        attempts: All attempts of a call in a cluster, in order; otherwise empty.
        metadata: Further information; read-only.

    Two results are equal if value, error, code and delivery are; ids and times are not compared.

    .. versionadded:: 0.1
    """

    __slots__ = ()

    value: T | None

    def __init__(
        self,
        is_success: bool,
        value: T | None = None,
        error: str | None = None,
        code: ErrorCode | str | None = None,
        delivery: Delivery = Delivery.EXECUTED,
        *,
        request_id: str | None = None,
        node_id: str | None = None,
        processing_time_ms: float = 0.0,
        attempts: tuple[Attempt, ...] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        fill = object.__setattr__
        fill(self, "is_success", is_success)
        fill(self, "value", value)
        # Other values become text, as they would on the wire.
        fill(self, "error", None if error is None else str.__str__(str(error)))
        fill(self, "code", parse_code(code))
        fill(self, "delivery", delivery if type(delivery) is Delivery else Delivery(delivery))
        fill(self, "_request_id", request_id)
        fill(self, "node_id", node_id)
        fill(self, "processing_time_ms", processing_time_ms)
        fill(self, "_attempts", tuple(attempts))
        fill(self, "metadata", _NOTHING if metadata is None else MappingProxyType(dict(metadata)))

    @classmethod
    def success(cls, value: S | None = None, *, metadata: Mapping[str, Any] | None = None) -> CatgaResult[S]:
        """Return a successful result with this value."""
        return cast("CatgaResult[S]", cls(True, cast("Any", value), metadata=metadata))

    @classmethod
    def failure(
        cls,
        error: str,
        code: ErrorCode | str | None = None,
        *,
        delivery: Delivery = Delivery.EXECUTED,
        metadata: Mapping[str, Any] | None = None,
    ) -> CatgaResult[Any]:
        """
        Return a failed result.

        Args:
            error: The text for the caller.
            code: An ``ErrorCode``, or a string of the application's own. The name of an ``ErrorCode`` becomes that
                member. None means no code.
            delivery: Whether the handler ran. The default is for handlers, which run when they return a failure.
            metadata: Further information. None means none.
        """
        return cls(False, None, "" if error is None else error, code, delivery, metadata=metadata)

    def _with(
        self,
        *,
        value: Any = _KEPT,
        error: str | None = _KEPT,
        code: ErrorCode | str | None = _KEPT,
        delivery: Delivery = _KEPT,
        request_id: str | _Named | None = _KEPT,
        node_id: str | None = _KEPT,
        processing_time_ms: float = _KEPT,
        attempts: tuple[Attempt, ...] = _KEPT,
        metadata: MappingProxyType[str, Any] = _KEPT,
    ) -> CatgaResult[T]:
        """Return a copy with the given attributes changed."""
        cells = _Cells()
        cells.is_success = self.is_success
        cells.value = self.value if value is _KEPT else value
        cells.error = self.error if error is _KEPT else error
        cells.code = self.code if code is _KEPT else code
        cells.delivery = self.delivery if delivery is _KEPT else delivery
        cells._request_id = self._request_id if request_id is _KEPT else request_id
        cells.node_id = self.node_id if node_id is _KEPT else node_id
        cells.processing_time_ms = self.processing_time_ms if processing_time_ms is _KEPT else processing_time_ms
        made = self._attempts if attempts is _KEPT else attempts
        cells._attempts = made if type(made) is tuple else self.attempts  # a number is of its own node
        cells.metadata = self.metadata if metadata is _KEPT else metadata
        cells.__class__ = CatgaResult
        return cells  # type: ignore[return-value] # by the line above

    def _of_send(
        self,
        request_id: str | _Named | None,
        delivery: Delivery,
        attempts: tuple[Attempt, ...] | float,
        metadata: MappingProxyType[str, Any],
    ) -> CatgaResult[T]:
        """Return a copy with what a send to a node adds: ``_with`` in half the time."""
        cells = _Cells()
        cells.is_success = self.is_success
        cells.value = self.value
        cells.error = self.error
        cells.code = self.code
        cells.delivery = delivery
        cells._request_id = request_id
        cells.node_id = self.node_id
        cells.processing_time_ms = self.processing_time_ms
        cells._attempts = attempts
        cells.metadata = metadata
        cells.__class__ = CatgaResult
        return cells  # type: ignore[return-value] # by the line above

    def _of_call(self, call: _Named, node_id: str | None, processing_time_ms: float) -> CatgaResult[T]:
        """Return a copy that names its call, the node that processed it, and the time that this took."""
        cells = _Cells()
        cells.is_success = self.is_success
        cells.value = self.value
        cells.error = self.error
        cells.code = self.code
        cells.delivery = self.delivery
        cells._request_id = call
        cells.node_id = node_id
        cells.processing_time_ms = processing_time_ms
        made = self._attempts
        cells._attempts = made if type(made) is tuple else self.attempts
        cells.metadata = self.metadata
        cells.__class__ = CatgaResult
        return cells  # type: ignore[return-value] # by the line above

    def _of_attempt(self, call: _Named, node_id: str, elapsed: float) -> CatgaResult[T]:
        """
        Return a copy as the result of a call that one attempt at a node was, of so many seconds.

        A result that names its node has its processing time already.
        """
        cells = _Cells()
        cells.is_success = self.is_success
        cells.value = self.value
        cells.error = self.error
        cells.code = self.code
        cells.delivery = self.delivery
        cells._request_id = call
        cells.node_id = node_id
        cells.processing_time_ms = elapsed * 1e3 if self.node_id is None else self.processing_time_ms
        cells.metadata = self.metadata
        cells._attempts = elapsed
        cells.__class__ = CatgaResult
        return cells  # type: ignore[return-value] # by the line above

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """All attempts of a call in a cluster, in order; otherwise empty."""
        found = self._attempts
        if isinstance(found, (float, int)):
            # With code and error: a behaviour may tell them of a success.
            found = (Attempt(cast("str", self.node_id), found, self.delivery, self.code, self.error),)
            object.__setattr__(self, "_attempts", found)
        return found

    @property
    def request_id(self) -> str:
        """The id of the call, in logs and on the wire."""
        given = self._request_id
        if given is None:
            with _naming:
                given = self._request_id
                if given is None:
                    given = new_request_id()
                    object.__setattr__(self, "_request_id", given)
        return given if isinstance(given, str) else given.request_id

    def unwrap(self) -> T:
        """
        Return the value, or raise the ``CallError`` that fits the failure.

        Raises:
            BusinessError: The handler ran and refused the request (``HandlerFailed`` if it raised).
            DeadlineExceeded, NetworkError, SerializationError, NoHandlerError, AccessDenied: See ``catga_sync.errors``.
        """
        if self.is_success:
            return self.value  # type: ignore[return-value] # None only where T allows it
        raise self._to_error()

    @property
    def http_status(self) -> int:
        """
        The HTTP status for this result in the response of a web view; 200 for a success.

        The code decides, as in the gateway of gRPC. A failure that the application has chosen itself, with a code of
        its own or none, is 422.
        """
        if self.is_success:
            return 200
        if isinstance(self.code, ErrorCode):
            return HTTP_STATUSES[self.code]
        return 422 if self.code is not None or self.delivery is Delivery.EXECUTED else 500

    def to_dict(self) -> dict[str, Any]:
        """Return all attributes as data that ``json.dumps`` takes; the names of fields stay as in Python."""
        found = {name: getattr(self, name) for name in _PUBLIC}
        return cast("dict[str, Any]", json_data(found))

    def _to_error(self) -> CallError:
        """Return the error that fits the failure."""
        kind = error_class(self.code, self.delivery)
        return kind(self.error or "", code=self.code, delivery=self.delivery, result=self)

    def __bool__(self) -> bool:
        return self.is_success

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CatgaResult):
            return NotImplemented
        return (
            self.is_success == other.is_success
            and self.value == other.value
            and self.error == other.error
            and self.code == other.code
            and self.delivery is other.delivery
        )

    # The value may be unhashable.
    __hash__ = None  # type: ignore[assignment]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: a CatgaResult cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name}: a CatgaResult cannot be changed")

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = {name: getattr(self, name) for name in _PUBLIC}
        arguments.update(metadata=dict(self.metadata))
        return (functools.partial(CatgaResult, **arguments), ())

    def __repr__(self) -> str:
        if self.is_success:
            return f"CatgaResult.success({self.value!r})"
        return f"CatgaResult.failure({self.error!r}, code={self.code}, delivery={self.delivery})"


def succeeded(
    value: Any,
    processing_time_ms: float,
    request_id: str | _Named | None = None,
    node_id: str | None = None,
    metadata: MappingProxyType[str, Any] = _NOTHING,
    attempts: tuple[Attempt, ...] | float = (),
) -> CatgaResult[Any]:
    """Return ``CatgaResult(True, value, ...)`` in a fifth of the time; for ``attempts`` see ``_Cells``."""
    cells = _Cells()
    cells.is_success = True
    cells.value = value
    cells.error = cells.code = None
    cells.delivery = _EXECUTED
    cells._request_id = request_id
    cells.node_id = node_id
    cells.processing_time_ms = processing_time_ms
    cells._attempts = attempts
    cells.metadata = metadata
    cells.__class__ = CatgaResult
    return cells  # type: ignore[return-value] # by the line above


def expired_before_start() -> CatgaResult[Any]:
    """Return the failure for a call whose time was up before its handler started."""
    return CatgaResult.failure(
        "the time of the call was up before its handler started; give it a longer timeout",
        ErrorCode.DEADLINE_EXCEEDED,
        delivery=Delivery.NOT_EXECUTED,
    )


#: The attributes of a result in the order in which they are read.
_PUBLIC = (
    "is_success",
    "value",
    "error",
    "code",
    "delivery",
    "request_id",
    "node_id",
    "processing_time_ms",
    "attempts",
    "metadata",
)
