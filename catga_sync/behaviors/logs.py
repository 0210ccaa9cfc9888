"""Log every call: its type, request id, outcome and time. Never its payload."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import Any

from catga_sync.pipeline import Behavior, Handler
from catga_sync.results import CatgaResult

__all__ = ["logging_behavior"]


def logging_behavior(logger: logging.Logger | None = None, level: int = logging.INFO) -> Behavior:
    """
    Return a behaviour that writes one line per call. Thread-safe.

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
            started = perf_counter()
            result = next_(request)
            elapsed = (perf_counter() - started) * 1000.0
            kind = type(request).__qualname__
            if result.is_success:
                log.log(level, "%s ok: request_id=%s time_ms=%.1f", kind, result.request_id, elapsed)
            else:
                log.log(
                    max(level, logging.WARNING),
                    "%s failed: request_id=%s time_ms=%.1f code=%s delivery=%s error=%r",
                    kind,
                    result.request_id,
                    elapsed,
                    getattr(result.code, "name", None) or str(result.code).encode("unicode_escape").decode("ascii"),
                    result.delivery.name,
                    result.error,
                )
            return result

        return handle

    return behavior
