"""Repeats calls that failed for now: queries, and requests that provably did not run."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

from catga_sync._checks import check_seconds, check_whole
from catga_sync.context import current_call
from catga_sync.errors import Delivery, ErrorCode
from catga_sync.messages import Query, options_of
from catga_sync.pipeline import Behavior, Handler
from catga_sync.results import NEVER, OTHER_NODE, RETRY, CatgaResult

__all__ = ["retry_behavior"]

_TEMPORARY = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.RESOURCE_EXHAUSTED, ErrorCode.ABORTED})


def retry_behavior(
    attempts: int = 3,
    delay: float = 0.1,
    *,
    sleep: Callable[[float], object] | None = None,
    rng: random.Random | None = None,
) -> Behavior:
    """
    Return a behaviour that repeats a call after a temporary failure. Thread-safe.

    A call is repeated if the code of its failure is temporary (UNAVAILABLE, RESOURCE_EXHAUSTED, ABORTED) and either the
    request provably did not run or it is idempotent. A plain request that may have run is never repeated. The wait is
    drawn from ``[0, delay * 2 ** n)`` (full jitter, as in AWS and Envoy) and never exceeds the call's deadline.

    Args:
        attempts: Calls in total, including the first; at least 1.
        delay: Seconds, the upper bound of the first wait. 0 repeats at once.
        sleep: Waits this many seconds. None waits in real time.
        rng: The source of the jitter. None makes one.

    Raises:
        ConfigurationError: A value is out of range.

    .. versionadded:: 0.1
    """
    check_whole("attempts", attempts, 1)
    check_seconds("delay", delay, zero=True)
    wait = threading.Event().wait if sleep is None else sleep
    jitter = random.Random() if rng is None else rng  # noqa: S311 - spreads load, guards nothing

    def behavior(next_: Handler) -> Handler:
        def handle(request: Any) -> CatgaResult[Any]:
            result = next_(request)
            tried = result.attempts
            unsure = result.delivery is not Delivery.NOT_EXECUTED
            for n in range(attempts - 1):
                if not _may_repeat(request, result):
                    break
                pause = jitter.uniform(0, delay * 2**n)
                call = current_call()
                left = None if call is None else call.remaining()
                if left is not None and left <= pause:
                    break
                wait(pause)
                result = next_(request)
                tried += result.attempts
                if unsure and result.delivery is Delivery.NOT_EXECUTED:
                    # This attempt did not run, but an earlier one may have.
                    result = result._with(delivery=Delivery.UNKNOWN)
                unsure = unsure or result.delivery is not Delivery.NOT_EXECUTED
            return result if tried is result.attempts else result._with(attempts=tried)

        return handle

    return behavior


def _may_repeat(request: Any, result: CatgaResult[Any]) -> bool:
    if result.is_success or result.code not in _TEMPORARY or result.metadata.get(RETRY) in (OTHER_NODE, NEVER):
        return False
    declared = options_of(type(request)).idempotent
    idempotent = isinstance(request, Query) if declared is None else declared
    return idempotent or result.delivery is Delivery.NOT_EXECUTED
