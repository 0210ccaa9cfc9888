"""A budget for further tries, shared by all calls of a process.

Without one, three tries a call turn an outage into three times the load on whoever is left. Finagle's and Envoy's
answer, with the figures of Google's SRE book (10 % of calls): every call pays in a tenth of a try, every further
try takes out a whole one, and a small reserve lets a quiet caller try again all the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from catga_sync import _fork
from catga_sync._clock import SYSTEM_CLOCK

__all__ = ["RetryBudget"]

#: Seconds after which what was paid in is worth nothing.
WINDOW = 10


class RetryBudget:
    """
    Say whether a further try may be made. Thread-safe; never waits.

    Args:
        share: Further tries per call.
        reserve: Further tries a second that are always granted.
        monotonic: The clock; None means the system's.

    .. versionadded:: 0.1
    """

    def __init__(
        self, share: float = 0.1, reserve: float = 10.0, *, monotonic: Callable[[], float] | None = None
    ) -> None:
        self._share = share
        self._allowance = reserve * WINDOW
        self._monotonic = SYSTEM_CLOCK.monotonic if monotonic is None else monotonic
        self._lock = threading.Lock()
        # Guarded by _lock: calls and further tries of each of the last WINDOW seconds, and which second it is.
        self._calls = [0] * WINDOW
        self._tries = [0] * WINDOW
        self._second = 0
        _fork.watch(self)

    def pay_in(self) -> None:
        """Count a call."""
        with self._lock:
            second = int(self._monotonic())
            if second != self._second:
                self._turn_locked(second)
            self._calls[second % WINDOW] += 1

    def take(self) -> bool:
        """Take out one try; return False when there is none left."""
        with self._lock:
            slot = self._turn_locked(int(self._monotonic()))
            if sum(self._tries) + 1 > sum(self._calls) * self._share + self._allowance:
                return False
            self._tries[slot] += 1
            return True

    @property
    def left(self) -> float:
        """How many further tries would be granted now."""
        with self._lock:
            self._turn_locked(int(self._monotonic()))
            return max(0.0, sum(self._calls) * self._share + self._allowance - sum(self._tries))

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self._lock = threading.Lock()

    def _turn_locked(self, second: int) -> int:
        passed = min(second - self._second, WINDOW)
        for ago in range(passed):
            slot = (second - ago) % WINDOW
            self._calls[slot] = self._tries[slot] = 0
        self._second = second
        return second % WINDOW
