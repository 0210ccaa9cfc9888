"""A node's places, as far as this process may take them: so many calls at once, the others wait their turn.

    free                                  go
    taken, and the turn comes in time     wait, in order
    taken, and it would not               give up: at once if that can be told, else when half of the time is up

A call that gets its place in the last moment is work for nobody: its caller is gone before the answer comes. Under a
load that lasts, calls in a queue without an end would all get theirs in the last moment. So nobody waits longer than
half of his time, and whoever would have to is told at once. The other half is there for another node, and for the
answer.
"""

from __future__ import annotations

import threading
import time
from collections import deque

__all__ = ["Places"]

#: The share of its time that a call may wait.
SHARE = 0.5
#: How much a call counts in the average of how long one holds its place.
_WEIGHT = 0.1


class Places:
    """
    So many at once. Thread-safe.

    Args:
        count: How many.

    .. versionadded:: 0.1
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._lock = threading.Lock()
        # Guarded by _lock: free places, those who wait in order, and for how long a place is held on average. A place
        # that is given back goes to the first who waits.
        self._free = count
        self._waiting: deque[threading.Lock] = deque()
        self._held = 0.0

    def take(self, left: float) -> float | None:
        """
        Take a place, now or when its turn comes; return the monotonic time of it, which ``give_back`` wants.

        Args:
            left: Seconds that the call still has.

        Returns:
            None when there is no chance to get one in time.
        """
        with self._lock:
            if self._free:
                self._free -= 1
                return time.monotonic()
            if (len(self._waiting) + 1) * self._held > self._count * left * SHARE:
                return None
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        if not turn.acquire(timeout=left * SHARE):
            with self._lock:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                    return None
                # It was given in this very moment.
        return time.monotonic()

    def give_back(self, since: float) -> None:
        """Give a place back that was taken at that time."""
        with self._lock:
            self._held += _WEIGHT * (time.monotonic() - since - self._held)
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1
