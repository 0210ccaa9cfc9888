"""Passes the duration of each call to a function of the user."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from catga_sync.pipeline import Behavior, Handler
from catga_sync.results import CatgaResult

__all__ = ["timing_behavior"]


def timing_behavior(observe: Callable[[Any, CatgaResult[Any], float], None]) -> Behavior:
    """
    Return a behaviour that calls ``observe(request, result, seconds)`` after every call. Thread-safe if ``observe`` is.

    Args:
        observe: Called in the thread of the call, which waits for it. It must be quick and must not raise.

    .. versionadded:: 0.1
    """

    def behavior(next_: Handler) -> Handler:
        def handle(request: Any) -> CatgaResult[Any]:
            started = perf_counter()
            result = next_(request)
            observe(request, result, perf_counter() - started)
            return result

        return handle

    return behavior
