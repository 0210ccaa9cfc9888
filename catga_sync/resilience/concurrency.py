"""A node's places, as far as this process may take them: so many calls at once, the others wait their turn.

    free                                  go
    taken, and the turn comes in time     wait, in order
    taken, and it would not               CROWDED: at once if that can be told, else when half of the time is up
    taken, and none came free meanwhile   STALLED: the same, but nobody else got a place either; perhaps it hangs
    taken, and the node was found silent  RELEASED: at once

A call that gets its place in the last moment is work for nobody: its caller is gone before the answer comes. Under a
load that lasts, calls in a queue without an end would all get theirs in the last moment. So nobody waits longer than
half of his time, and whoever would have to is told at once. The other half is there for another node, and for the
answer.
"""

from __future__ import annotations

import enum
import threading
import time
from collections import deque
from collections.abc import Callable

__all__ = ["NoPlace", "Places"]

#: The share of its time that a call may wait.
SHARE = 0.5
#: The share within which its turn must be expected: an estimate that is a little off makes nobody wait in vain then.
EXPECTED_SHARE = 0.35
#: Nobody came or went for this share of a wait, and for so many seconds at least: that is a stall.
STALL_SHARE, STALL_LEAST = 0.8, 0.200
#: How much a call counts in the average of how long one holds its place.
_WEIGHT = 0.1


@enum.unique
class NoPlace(enum.Enum):
    """Why a call got no place."""

    CROWDED = "CROWDED"
    STALLED = "STALLED"
    RELEASED = "RELEASED"


class _Turn:
    """One who waits. ``end`` is guarded by the lock of the places: None, or how the wait has ended for the others."""

    __slots__ = ("end", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lock.acquire()
        self.end: _End | None = None


@enum.unique
class _End(enum.Enum):
    GIVEN = "GIVEN"
    RELEASED = "RELEASED"


class Places:
    """
    So many at once. Thread-safe.

    Args:
        count: How many.
        monotonic: The clock; None means the system's.

    .. versionadded:: 0.1
    """

    def __init__(self, count: int, *, monotonic: Callable[[], float] | None = None) -> None:
        self.count = count
        self._monotonic = time.monotonic if monotonic is None else monotonic
        self._lock = threading.Lock()
        # Guarded by _lock: free places, those who wait in order, for how long a place is held on average, and since
        # when no place was given back. One that is given back goes to the first who waits.
        self._free = count
        self._waiting: deque[_Turn] = deque()
        self._held = 0.0
        self._silent_since = 0.0

    def take(self, left: float) -> float | NoPlace:
        """
        Take a place, now or when its turn comes; return the monotonic time of it, which ``give_back`` wants.

        Args:
            left: Seconds that the call still has.

        Returns:
            A ``NoPlace`` when there is no chance to get one in time.
        """
        began = self._monotonic()
        with self._lock:
            if self._free:
                if self._free == self.count:
                    self._silent_since = began
                self._free -= 1
                return began
            if (len(self._waiting) + 1) * self._held > self.count * left * EXPECTED_SHARE:
                return NoPlace.CROWDED
            turn = _Turn()
            self._waiting.append(turn)
        try:
            turn.lock.acquire(timeout=min(left * SHARE, threading.TIMEOUT_MAX))
        except BaseException:
            # Whatever ends this thread here must not end the place, too.
            with self._lock:
                if turn.end is _End.GIVEN:
                    self._pass_on_locked()
                elif turn.end is None:
                    self._waiting.remove(turn)
            raise
        with self._lock:
            now = self._monotonic()
            if turn.end is _End.GIVEN:  # perhaps in the very moment in which its time was up
                return now
            if turn.end is _End.RELEASED:
                return NoPlace.RELEASED
            self._waiting.remove(turn)
            stalled = now - self._silent_since >= max(STALL_LEAST, STALL_SHARE * (now - began))
            return NoPlace.STALLED if stalled else NoPlace.CROWDED

    def give_back(self, since: float) -> None:
        """Give a place back that was taken at that time."""
        now = self._monotonic()
        with self._lock:
            self._held += _WEIGHT * (now - since - self._held)
            self._silent_since = now
            self._pass_on_locked()

    def _pass_on_locked(self) -> None:
        if self._waiting:
            turn = self._waiting.popleft()
            turn.end = _End.GIVEN
            turn.lock.release()
        else:
            self._free += 1

    @property
    def silence(self) -> float:
        """Seconds for which calls have been under way and none has ended; 0.0 when none is under way."""
        return 0.0 if self._free == self.count else self._monotonic() - self._silent_since

    @property
    def in_use(self) -> bool:
        """Whether any call is under way."""
        return self._free != self.count

    def release(self) -> None:
        """Have everybody who waits for a place go without one."""
        with self._lock:
            while self._waiting:
                turn = self._waiting.popleft()
                turn.end = _End.RELEASED
                turn.lock.release()
