"""Limits the concurrent calls out, of this process to one node; further callers queue.

The calls in are limited by ``max_concurrency``, in ``cluster/local_node.py``.

    a slot is free                           the call goes
    none is free, but one will be in time    the call waits in the queue
    none is expected, or came, in time       CROWDED: at once if it can be estimated, or after half of the call's time
    none came, and no call ended meanwhile   STALLED: after half of the call's time; the node may hang
    the node turns out to be unresponsive    ABANDONED: at once

A call that gets its slot at the last moment is wasted work: its caller is gone before the response comes. Under lasting
load this would happen to every call of an unbounded queue. So no call waits longer than half of its time, and a call
that would have to is rejected at once. The other half is left for another node and for the response.
"""

from __future__ import annotations

import enum
import threading
import time
from collections import deque
from collections.abc import Callable

__all__ = ["ConcurrencyLimiter", "Rejection"]

#: The share of its time that a call may wait for a slot.
SHARE = 0.5
#: The share within which a slot must be expected; smaller, so that an inexact estimate makes no call wait in vain.
EXPECTED_SHARE = 0.35
#: A stall: no call ended for this share of a wait, and for this many seconds at least.
STALL_SHARE, STALL_LEAST = 0.8, 0.200
#: The weight of one call in the average duration.
_WEIGHT = 0.1


@enum.unique
class Rejection(enum.Enum):
    """Why a call gets no slot."""

    CROWDED = "CROWDED"
    STALLED = "STALLED"
    ABANDONED = "ABANDONED"


class _Waiter:
    """A waiting call. ``acquired``, guarded by the limiter's lock, is None while it waits, and False if abandoned."""

    __slots__ = ("acquired", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lock.acquire()
        self.acquired: bool | None = None


class ConcurrencyLimiter:
    """
    Limits this process's concurrent calls to one node; further callers queue. Thread-safe.

    Args:
        limit: Concurrent calls.
        monotonic: The clock, in seconds. None means the system's.

    .. versionadded:: 0.1
    """

    def __init__(self, limit: int, *, monotonic: Callable[[], float] | None = None) -> None:
        self.limit = limit
        self._monotonic = time.monotonic if monotonic is None else monotonic
        self._lock = threading.Lock()
        # Guarded by _lock: the free slots, the waiting calls in order, the average duration of a call, and the time
        # since which none has ended. The slot of a call that ends goes to the first waiting call.
        self._free = limit
        self._waiting: deque[_Waiter] = deque()
        self._average = 0.0
        self._silent_since = 0.0

    def acquire(self, left: float) -> float | Rejection:
        """
        Acquire a slot for a call; wait for it if none is free.

        Args:
            left: Seconds until the call's deadline.

        Returns:
            The monotonic time of the acquisition, for ``release``; a ``Rejection`` if there is no slot in time.
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
            waiter = _Waiter()
            self._waiting.append(waiter)
        try:
            waiter.lock.acquire(timeout=min(left * SHARE, threading.TIMEOUT_MAX))
        except BaseException:
            # An exception that ends this thread here must not lose the slot.
            with self._lock:
                if waiter.acquired:
                    self._pass_on_locked()
                elif waiter.acquired is None:
                    self._waiting.remove(waiter)
            raise
        with self._lock:
            now = self._monotonic()
            if waiter.acquired:  # possibly at the very moment of the timeout
                return now
            if waiter.acquired is False:
                return Rejection.ABANDONED
            self._waiting.remove(waiter)
            stalled = now - self._silent_since >= max(STALL_LEAST, STALL_SHARE * (now - began))
            return Rejection.STALLED if stalled else Rejection.CROWDED

    def release(self, since: float) -> None:
        """Release the slot of a call that ended; ``since`` is what ``acquire`` returned."""
        now = self._monotonic()
        with self._lock:
            self._average += _WEIGHT * (now - since - self._average)
            self._silent_since = now
            if self._waiting:
                self._pass_on_locked()
            else:  # nearly always, so without a further call
                self._free += 1

    def _pass_on_locked(self) -> None:
        if self._waiting:
            waiter = self._waiting.popleft()
            waiter.acquired = True
            waiter.lock.release()
        else:
            self._free += 1

    @property
    def silence(self) -> float:
        """Seconds since the last call ended while others are in flight; 0.0 if none is in flight."""
        return 0.0 if self._free == self.limit else self._monotonic() - self._silent_since

    @property
    def in_use(self) -> bool:
        """Whether any call is in flight."""
        return self._free != self.limit

    def abandon(self) -> None:
        """Reject all waiting calls."""
        with self._lock:
            while self._waiting:
                waiter = self._waiting.popleft()
                waiter.acquired = False
                waiter.lock.release()
