"""The delivery of a call that passes through behaviours, whatever result they return.

Such a call has a mark. It is written where the handler starts, or where the call is sent, and nowhere else. A failure
gets the delivery that the mark shows; a success is EXECUTED, even one from a cache.

Rules of this file:
1. A mark never goes back.
2. A behaviour may move its call to another thread. The mark is found there by the thread's context, or else by the
   request. Where neither leads to a mark, the step may belong to any open call: each of these may have run.
3. A call that has returned NOT_EXECUTED is over: its handler does not start later in another thread.
4. No lock: a mark is written by appending to lists.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from catga_sync.errors import Delivery, ErrorCode
from catga_sync.results import NEVER, RETRY, Attempt, CatgaResult

__all__ = ["Evidence"]

Handler = Callable[[Any], CatgaResult[Any]]


class _Mark:
    """The mark of one call."""

    __slots__ = ("attempts", "lost", "over", "owner", "request", "tries")

    def __init__(self, owner: Evidence, request: Any) -> None:
        self.owner = owner
        self.request = request
        #: One cell for each run of the innermost step.
        self.tries: list[list[Delivery]] = []
        self.attempts: list[Attempt] = []
        #: Whether a step ran that may have been this call's.
        self.lost = False
        self.over = False

    @property
    def delivery(self) -> Delivery:
        known = {cell[0] for cell in tuple(self.tries)}
        if Delivery.EXECUTED in known:
            return Delivery.EXECUTED
        return Delivery.UNKNOWN if known - {Delivery.NOT_EXECUTED} or self.lost else Delivery.NOT_EXECUTED


_current: ContextVar[_Mark | None] = ContextVar("catga_sync_mark", default=None)


class Evidence:
    """
    Mark the calls that pass through one chain of behaviours. Thread-safe.

    Args:
        sends: Whether the innermost step sends the call; otherwise it runs the handler.
    """

    def __init__(self, *, sends: bool) -> None:
        self._at_start = Delivery.UNKNOWN if sends else Delivery.EXECUTED
        #: Whether the innermost step sends the call.
        self.sends = sends
        self._open: set[_Mark] = set()

    def innermost(self, step: Handler) -> Handler:
        """Return the innermost step, which writes the marks."""

        def run(request: Any) -> CatgaResult[Any]:
            marks = self._marks_of(request)
            if len(marks) != 1:
                for mark in marks or tuple(self._open):
                    mark.lost = True
                return step(request)
            (mark,) = marks
            # In this order: a thread that ends the call meanwhile sees the cell, or this one sees the end.
            cell = [Delivery.UNKNOWN]
            mark.tries.append(cell)
            if mark.over:
                return _TOO_LATE
            cell[0] = self._at_start
            result = step(request)
            cell[0] = result.delivery
            mark.attempts.extend(result.attempts)
            return result

        return run

    def outermost(self, chain: Handler) -> Handler:
        """Return the outermost step, which makes a mark for each call and corrects its result by it."""

        def run(request: Any) -> CatgaResult[Any]:
            mark = _Mark(self, request)
            self._open.add(mark)
            token = _current.set(mark)
            try:
                return self._corrected(mark, chain(request))
            finally:
                _current.reset(token)
                self._open.discard(mark)

        return run

    def delivery(self, request: Any) -> Delivery:
        """Return the delivery so far of the call of a request that passes through the chain."""
        marks = self._marks_of(request)
        return marks[0].delivery if len(marks) == 1 else Delivery.UNKNOWN

    def _marks_of(self, request: Any) -> tuple[_Mark, ...]:
        """Return the marks of the calls that a request may belong to; none where that is unknown."""
        mark = _current.get()
        if mark is not None and mark.owner is self:
            if mark.request is request:
                return (mark,)
        else:
            mark = None
        # A behaviour may run the requests of several calls in one thread, and may have replaced a request.
        found = tuple(each for each in tuple(self._open) if each.request is request)
        return found or ((mark,) if mark is not None and mark in self._open else ())

    def _corrected(self, mark: _Mark, result: CatgaResult[Any]) -> CatgaResult[Any]:
        changes: dict[str, Any] = {}
        delivery = Delivery.EXECUTED
        if not result.is_success:
            mark.over = True
            delivery = mark.delivery
            mark.over = delivery is Delivery.NOT_EXECUTED
        if result.delivery is not delivery:
            changes["delivery"] = delivery
        if self.sends:
            attempts = tuple(mark.attempts)
            if result.attempts != attempts and not mark.lost:
                changes["attempts"] = attempts
        else:
            if result.attempts or result.node_id is not None:
                changes["attempts"], changes["node_id"] = (), None
            if delivery is Delivery.NOT_EXECUTED:
                # A behaviour has refused it: that is this node's response, and no reason to try another node.
                changes["metadata"] = MappingProxyType({**result.metadata, RETRY: NEVER})
        return result._with(**changes) if changes else result


_TOO_LATE: CatgaResult[Any] = CatgaResult.failure(
    "the call was over before a behaviour passed it on",
    ErrorCode.CANCELLED,
    delivery=Delivery.NOT_EXECUTED,
)
