"""Log every call: its type, request id, trace id, outcome and time. Never its payload."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import Any

from catga_sync.context import CallContext, current_call, enter_call, leave_call, new_request_id
from catga_sync.pipeline import Behavior, Handler
from catga_sync.results import CatgaResult

__all__ = ["logging_behavior"]


def logging_behavior(logger: logging.Logger | None = None, level: int = logging.INFO) -> Behavior:
    """
    Return a behaviour that writes one line per call. Thread-safe.

    The line has the id that the result has, here and on the other node, and the trace id that all calls share that
    come of one first call.

    Args:
        logger:
            Where to write. None means ``catga_sync.calls``.

        level:
            Level of the line of a success; a failure is written one step up, as a warning at least.

    .. versionadded:: 0.1
    """
    log = logging.getLogger("catga_sync.calls") if logger is None else logger

    def behavior(next_: Handler) -> Handler:
        def handle(request: Any) -> CatgaResult[Any]:
            call = current_call()
            if call is not None:
                return logged(request, call)
            # A local send that is no part of another call makes no id. Here it is needed, and by all that it sends in
            # turn.
            call = CallContext(new_request_id())
            token = enter_call(call)
            try:
                return logged(request, call)
            finally:
                leave_call(token)

        def logged(request: Any, call: CallContext) -> CatgaResult[Any]:
            started = perf_counter()
            result = next_(request)
            elapsed = (perf_counter() - started) * 1000.0
            kind = type(request).__qualname__
            if result.is_success:
                log.log(level, "%s ok: %s time_ms=%.1f", kind, call.ids, elapsed)
            else:
                log.log(
                    max(level, logging.WARNING),
                    "%s failed: %s time_ms=%.1f code=%s delivery=%s error=%r",
                    kind,
                    call.ids,
                    elapsed,
                    str(result.code).encode("unicode_escape").decode("ascii"),
                    result.delivery,
                    result.error,
                )
            return result

        return handle

    return behavior
