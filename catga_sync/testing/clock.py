"""A clock that only tests move, and that calls what is due on its way."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

__all__ = ["FakeClock"]


class FakeClock:
    """
    A ``Clock``, with a ``sleep`` that takes no time. Not thread-safe; for one test.

    Args:
        start: The first reading of both clocks, in seconds.

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
        """Move the clock on by so many seconds."""
        self.advance(seconds)

    def call_at(self, when: float, function: Callable[[], object]) -> None:
        """Call ``function`` when the clock gets there."""
        heapq.heappush(self._due, (when, next(self._order), function))

    def advance(self, seconds: float) -> None:
        """Move the clock on by so many seconds; functions that fall due on the way are called at their time."""
        end = self._now + max(0.0, seconds)
        while self._due and self._due[0][0] <= end:
            when, _, function = heapq.heappop(self._due)
            self._now = max(self._now, when)
            function()
        self._now = max(self._now, end)
