"""A clock that goes only when it is told to, and does what is due on its way."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

__all__ = ["FakeClock"]


class FakeClock:
    """
    Both clocks of a ``Clock``, and a ``sleep`` that takes no time. Not thread-safe; for one test.

    Args:
        start: What both clocks show at first, in seconds.

    .. versionadded:: 0.1
    """

    def __init__(self, start: float = 1_000_000.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], object]]] = []

    def monotonic(self) -> float:
        """See ``Clock``."""
        return self._now

    def time(self) -> float:
        """See ``Clock``."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        self.advance(seconds)

    def call_at(self, when: float, function: Callable[[], object]) -> None:
        """Have ``function`` called when the clock gets there."""
        heapq.heappush(self._due, (when, next(self._order), function))

    def advance(self, seconds: float) -> None:
        """Go on by so many seconds; whatever falls due on the way is done at its time."""
        end = self._now + max(0.0, seconds)
        while self._due and self._due[0][0] <= end:
            when, _, function = heapq.heappop(self._due)
            self._now = max(self._now, when)
            function()
        self._now = max(self._now, end)
