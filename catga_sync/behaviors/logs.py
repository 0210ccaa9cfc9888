"""Log every call: its type, request id, trace id, outcome and time. Never its payload."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import Any

from catga_sync.context import CallContext, within_call
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
            return within_call(lambda call: logged(request, call))

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
