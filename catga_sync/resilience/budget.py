"""A budget of retries, shared by all calls of a process.

Without a budget, three attempts a call turn an outage into three times the load on the remaining nodes. As in Finagle
and Envoy, with the figure of Google's SRE book (10 % of calls), every call adds a tenth of a retry, every retry costs a
whole one, and a small reserve allows retries to a process with few calls.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from catga_sync import _fork
from catga_sync._clock import SYSTEM_CLOCK

__all__ = ["RetryBudget"]

#: Seconds after which calls and retries no longer count.
WINDOW = 10


class RetryBudget:
    """
    Limits the retries of a process. Thread-safe; never waits.

    Args:
        share: Retries per call.
        reserve: Retries per second that are always allowed.
        on_exhausted: Called, outside the lock, when a retry is not allowed.
        monotonic: The clock, in seconds. None means the system's.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        share: float = 0.1,
        reserve: float = 10.0,
        *,
        on_exhausted: Callable[[], object] = lambda: None,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self._on_exhausted = on_exhausted
        self._share = share
        self._allowance = reserve * WINDOW
        self._monotonic = SYSTEM_CLOCK.monotonic if monotonic is None else monotonic
        self._lock = threading.Lock()
        # Guarded by _lock, but for what ``pay_in`` counts: the calls and retries in each of the last WINDOW seconds,
        # the current second, and its place.
        self._calls = [0] * WINDOW
        self._tries = [0] * WINDOW
        self._second = 0
        self._slot = 0
        _fork.watch(self)

    def pay_in(self, now: float | None = None) -> None:
        """Count a call that begins at this time of its clock; None means: now."""
        now = self._monotonic() if now is None else now
        # Without waiting: another thread that has the lock does the same.
        if now >= self._second + 1 and self._lock.acquire(blocking=False):
            try:
                self._turn_locked(int(now))
            finally:
                self._lock.release()
        # On the way of every call, so without the lock: a call that another thread overwrites is a tenth of a retry.
        self._calls[self._slot] += 1

    def take(self) -> bool:
        """Count a retry; return False if none is left."""
        with self._lock:
            self._turn_locked(int(self._monotonic()))
            if sum(self._tries) + 1 <= sum(self._calls) * self._share + self._allowance:
                self._tries[self._slot] += 1
                return True
        self._on_exhausted()
        return False

    @property
    def left(self) -> float:
        """How many retries would be allowed now."""
        with self._lock:
            self._turn_locked(int(self._monotonic()))
            return max(0.0, sum(self._calls) * self._share + self._allowance - sum(self._tries))

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self._lock = threading.Lock()

    def _turn_locked(self, second: int) -> None:
        passed = min(second - self._second, WINDOW)
        if passed <= 0:  # another thread was faster
            return
        for ago in range(passed):
            slot = (second - ago) % WINDOW
            self._calls[slot] = self._tries[slot] = 0
        self._slot = second % WINDOW
        self._second = second
