"""The typed result of one call: success or failure, and what is known about execution."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast

from catga_sync.errors import (
    AccessDenied,
    BusinessError,
    CallError,
    DeadlineExceeded,
    Delivery,
    ErrorCode,
    HandlerFailed,
    NetworkError,
    NoHandlerError,
    SerializationError,
    parse_code,
)

__all__ = ["INSIDE", "NEVER", "OTHER_NODE", "RETRY", "Attempt", "CatgaResult", "succeeded"]

T = TypeVar("T")

#: What the ``metadata`` of a failure may say of another try, whatever its code: that it is worth it at another node
#: only, or nowhere. Without it, the code decides. A plain request that may have run is not tried again in any case.
RETRY, OTHER_NODE, NEVER = "catga.retry", "other-node", "never"
#: In the ``metadata`` of a failure whose text tells of the surroundings of this process: addresses of nodes, the path
#: of a store. It is for the caller in this process; a handler that passes the failure on does not pass the text on.
INSIDE = "catga.inside"

#: Held while a result is given its id, so that two threads that read it at once see the same.
_naming = threading.Lock()
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Attempt:
    """One try at one node, as ``CatgaResult.attempts`` keeps it. Immutable."""

    node_id: str
    #: Seconds.
    elapsed: float
    delivery: Delivery
    #: None when the attempt succeeded.
    code: ErrorCode | str | None = None
    error: str | None = None


class _Cells:
    """
    The storage of a result while it is being filled.

    A ``CatgaResult`` refuses assignment, and going around that costs 1.5 us for ten cells, three times what a whole
    local send may take. So a result is filled as this plain class, and made a ``CatgaResult`` by its last step.
    """

    __slots__ = (
        "_request_id",
        "attempts",
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
    attempts: tuple[Attempt, ...]
    metadata: Mapping[str, Any]
    _request_id: str | None


class CatgaResult(_Cells, Generic[T]):
    """
    What came of one call. Immutable, thread-safe; make one with ``success`` or ``failure``.

    Attributes:
        is_success: True when the handler ran and answered.
        value: The typed response; None on failure, or when None is the answer, which only a type that allows it has.
        error: A text for people, or None on success.
        code: An ``ErrorCode``, the application's own string, or None on success.
        delivery: Whether the handler ran.
        request_id: 32 hex digits; for a local call made when first read.
        node_id: The node that processed the call, or None when none did.
        processing_time_ms: Milliseconds spent at the node that processed it.
        attempts: In a cluster, every try in order; else empty.
        metadata: Whatever else came along; read-only.

    Two results are equal when value, error, code and delivery are: ids and times are circumstances.

    .. versionadded:: 0.1
    """

    __slots__ = ()

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
        # What is no text becomes one, since an error travels as text.
        fill(self, "error", None if error is None else str.__str__(str(error)))
        fill(self, "code", parse_code(code))
        fill(self, "delivery", delivery)
        fill(self, "_request_id", request_id)
        fill(self, "node_id", node_id)
        fill(self, "processing_time_ms", processing_time_ms)
        fill(self, "attempts", attempts)
        fill(self, "metadata", _NOTHING if metadata is None else MappingProxyType(dict(metadata)))

    # -- making one -----------------------------------------------------------------------------------------------

    @classmethod
    def success(cls, value: T | None = None, *, metadata: Mapping[str, Any] | None = None) -> CatgaResult[T]:
        """Return a successful result with this value."""
        return cls(True, value, metadata=metadata)

    @classmethod
    def failure(
        cls,
        error: str,
        code: ErrorCode | str | None = None,
        *,
        delivery: Delivery = Delivery.EXECUTED,
        metadata: Mapping[str, Any] | None = None,
    ) -> CatgaResult[T]:
        """
        Return a failed result.

        Args:
            error:
                The text that the caller will see.

            code:
                An ``ErrorCode``, or a string of the application's own. A string that is the name of an ``ErrorCode``
                becomes that member. None means no code.

            delivery:
                What is known about execution; a handler that answers "no" has run, hence the default.
        """
        return cls(False, None, "" if error is None else error, code, delivery, metadata=metadata)

    def _with(self, **changes: Any) -> CatgaResult[T]:
        """Return a copy in which the given cells differ."""
        cells = _Cells()
        cells.is_success = self.is_success
        cells.value = self.value
        cells.error = self.error
        cells.code = self.code
        cells.delivery = self.delivery
        cells._request_id = changes.pop("request_id", self._request_id)
        cells.node_id = self.node_id
        cells.processing_time_ms = self.processing_time_ms
        cells.attempts = self.attempts
        cells.metadata = self.metadata
        for name, value in changes.items():
            setattr(cells, name, value)
        return _sealed(cells)

    # -- reading one ----------------------------------------------------------------------------------------------

    @property
    def request_id(self) -> str:
        """The id of the call, as logs and the wire show it."""
        given: str | None = self._request_id
        if given is None:
            with _naming:
                given = self._request_id
                if given is None:
                    given = uuid.uuid4().hex
                    object.__setattr__(self, "_request_id", given)
        return given

    def unwrap(self) -> T:
        """
        Return the value, or raise the ``CallError`` that fits the failure.

        Raises:
            BusinessError: The handler ran and said no (``HandlerFailed`` if it raised).
            DeadlineExceeded, NetworkError, SerializationError, NoHandlerError, AccessDenied: see ``catga_sync.errors``.
        """
        if self.is_success:
            return cast("T", self.value)  # None only where T allows it
        raise self._to_error()

    def _to_error(self) -> CallError:
        """Return the error that fits the failure."""
        return self._error_class()(self.error or "", code=self.code, delivery=self.delivery, result=self)

    def _error_class(self) -> type[CallError]:
        if self.delivery is Delivery.EXECUTED:
            if self.code is ErrorCode.UNKNOWN:
                return HandlerFailed
            return SerializationError if self.code is ErrorCode.INTERNAL else BusinessError
        return _ERROR_CLASSES.get(self.code, CallError)

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

    # The value may be unhashable, and two equal results must hash alike; nobody needs results as keys.
    __hash__ = None  # type: ignore[assignment]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: a CatgaResult cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name}: a CatgaResult cannot be changed")

    def __reduce__(self) -> tuple[Any, ...]:
        cells = {cell: getattr(self, cell) for cell in _Cells.__slots__}
        cells["_request_id"] = self.request_id
        cells["metadata"] = dict(self.metadata)
        return (_rebuild, (cells,))

    def __repr__(self) -> str:
        if self.is_success:
            return f"CatgaResult.success({self.value!r})"
        code = self.code.name if isinstance(self.code, ErrorCode) else self.code
        return f"CatgaResult.failure({self.error!r}, code={code}, delivery={self.delivery.name})"


def succeeded(value: Any, processing_time_ms: float) -> CatgaResult[Any]:
    """Return the result of a handler that answered: ``CatgaResult(True, value, ...)``, in a fifth of the time."""
    cells = _Cells()
    cells.is_success = True
    cells.value = value
    cells.error = cells.code = cells._request_id = cells.node_id = None
    cells.delivery = Delivery.EXECUTED
    cells.processing_time_ms = processing_time_ms
    cells.attempts = ()
    cells.metadata = _NOTHING
    return _sealed(cells)


def _sealed(cells: _Cells) -> CatgaResult[Any]:
    cells.__class__ = CatgaResult
    return cast("CatgaResult[Any]", cells)


def _rebuild(cells: dict[str, Any]) -> CatgaResult[Any]:
    request_id = cells.pop("_request_id")
    return CatgaResult(
        cells.pop("is_success"),
        cells.pop("value"),
        cells.pop("error"),
        cells.pop("code"),
        cells.pop("delivery"),
        request_id=request_id,
        **cells,
    )


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
