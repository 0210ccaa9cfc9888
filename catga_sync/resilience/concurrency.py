"""How many calls of this process may be under way at one node; further callers queue.

    free                                  go
    taken, and the turn comes in time     wait, in order
    taken, and it would not               CROWDED: at once if that can be told, else when half of the time is up
    taken, and none came free meanwhile   STALLED: the same, but no other call got its turn either; perhaps it hangs
    taken, and the node was found silent  ABANDONED: at once

A call that gets its turn in the last moment is work for nothing: its caller is gone before the response comes. Under a
load that lasts, all calls of a queue without an end would get theirs in the last moment. So no call waits longer than
half of its time, and one that would have to is told at once. The other half is there for another node, and for the
response.
"""

from __future__ import annotations

import enum
import threading
import time
from collections import deque
from collections.abc import Callable

__all__ = ["ConcurrencyLimiter", "Rejection"]

#: The share of its time that a call may wait.
SHARE = 0.5
#: The share within which its turn must be expected: with an estimate that is a little off no call waits in vain then.
EXPECTED_SHARE = 0.35
#: No call ended for this share of a wait, and for so many seconds at least: that is a stall.
STALL_SHARE, STALL_LEAST = 0.8, 0.200
#: How much a call counts in the average of how long one takes.
_WEIGHT = 0.1


@enum.unique
class Rejection(enum.Enum):
    """Why a call may not go."""

    CROWDED = "CROWDED"
    STALLED = "STALLED"
    ABANDONED = "ABANDONED"


class _Turn:
    """A call that waits. ``end`` is guarded by the limiter's lock: None, or how the wait has ended."""

    __slots__ = ("end", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lock.acquire()
        self.end: _End | None = None


@enum.unique
class _End(enum.Enum):
    ACQUIRED = "ACQUIRED"
    ABANDONED = "ABANDONED"


class ConcurrencyLimiter:
    """
    Limits this process's concurrent calls to one node; further callers queue. Thread-safe.

    Args:
        limit: Calls at once.
        monotonic: The clock; None means the system's.

    .. versionadded:: 0.1
    """

    def __init__(self, limit: int, *, monotonic: Callable[[], float] | None = None) -> None:
        self.limit = limit
        self._monotonic = time.monotonic if monotonic is None else monotonic
        self._lock = threading.Lock()
        # Guarded by _lock: how many more may go, the calls that wait in order, how long a call takes on average, and
        # since when none has ended. The place of a call that ends goes to the first that waits.
        self._free = limit
        self._waiting: deque[_Turn] = deque()
        self._average = 0.0
        self._silent_since = 0.0

    def acquire(self, left: float) -> float | Rejection:
        """
        Let a call go, now or when its turn comes; return the monotonic time of it, which ``release`` wants.

        Args:
            left: Seconds that the call still has.

        Returns:
            A ``Rejection`` when its turn does not come in time.
        """
        began = self._monotonic()
        with self._lock:
            if self._free:
                if self._free == self.limit:
                    self._silent_since = began
                self._free -= 1
                return began
            if (len(self._waiting) + 1) * self._average > self.limit * left * EXPECTED_SHARE:
                return Rejection.CROWDED
            turn = _Turn()
            self._waiting.append(turn)
        try:
            turn.lock.acquire(timeout=min(left * SHARE, threading.TIMEOUT_MAX))
        except BaseException:
            # Whatever ends this thread here must not take the place along.
            with self._lock:
                if turn.end is _End.ACQUIRED:
                    self._pass_on_locked()
                elif turn.end is None:
                    self._waiting.remove(turn)
            raise
        with self._lock:
            now = self._monotonic()
            if turn.end is _End.ACQUIRED:  # perhaps in the very moment in which its time was up
                return now
            if turn.end is _End.ABANDONED:
                return Rejection.ABANDONED
            self._waiting.remove(turn)
            stalled = now - self._silent_since >= max(STALL_LEAST, STALL_SHARE * (now - began))
            return Rejection.STALLED if stalled else Rejection.CROWDED

    def release(self, since: float) -> None:
        """Take note that a call has ended which went at that time."""
        now = self._monotonic()
        with self._lock:
            self._average += _WEIGHT * (now - since - self._average)
            self._silent_since = now
            self._pass_on_locked()

    def _pass_on_locked(self) -> None:
        if self._waiting:
            turn = self._waiting.popleft()
            turn.end = _End.ACQUIRED
            turn.lock.release()
        else:
            self._free += 1

    @property
    def silence(self) -> float:
        """Seconds for which calls have been under way and none has ended; 0.0 when none is under way."""
        return 0.0 if self._free == self.limit else self._monotonic() - self._silent_since

    @property
    def in_use(self) -> bool:
        """Whether any call is under way."""
        return self._free != self.limit

    def abandon(self) -> None:
        """Reject all calls that wait."""
        with self._lock:
            while self._waiting:
                turn = self._waiting.popleft()
                turn.end = _End.ABANDONED
                turn.lock.release()
