"""How much memory a process gives to large requests at once: what does not fit waits for its turn, in order.

The values of a JSON text take far more memory than the text: up to fifty bytes for one byte. They can be counted before
any of them is made, so the weight of a request is known first, and it is read as soon as there is room for it.

    small                               no weight, no lock
    fits, and no other request waits    go
    does not fit                        wait, in order, for half of the time that the call has left
    heavier than the whole budget       wait until no other is there, then run alone
    not its turn in time                refused (``NO_MEMORY``): it has not run, another node may be asked

A share is held until the handler has returned, for the request that was read lives as long. A handler that sends, with
its share in hand, a call that comes back to this process as another large request may so wait for itself. That ends
after half of the time of the inner call, with a refusal: not executed. If a share were released
before the handler runs, nothing would be bounded: slow handlers would pile requests up.

It is an estimate. A list of ``{}`` that are read as dataclasses takes more, if their fields have a ``default_factory``
or if there are many of them: half as much again for one with a list and a dict.

Rules of this file:
1. A thread that holds a share does not ask for a second one: two such threads would wait for each other.
2. A request that waits is served before any large one that came later, or a heavy one would never have its turn.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

from catga_sync import _fork
from catga_sync.receiver.refusal import Reason, Refused
from catga_sync.serialization import count_values

__all__ = ["BUDGET", "SMALL", "MemoryBudget", "weight_of"]

#: Bytes of JSON that are read without a share.
SMALL = 64 * 1024
#: Bytes of the budget for each byte that a body may have: with eight of the longest bodies at once, six for each byte.
BUDGET = 48
#: Bytes of memory for a byte of JSON. A text with a character beyond the Basic Multilingual Plane takes four for each
#: character, and there are two of it while it is read: the whole, and the values.
_PER_BYTE = 8
#: Bytes of memory for a value, as ``count_values`` counts. Measured, with its place in the list or dict that it stands
#: in: 32 for a float, 117 for a Decimal, 60 to 84 for a text, 128 for one in a set, 126 for a key of a dict with its
#: number, 100 for a dataclass of five fields, 98 for a list in a list, 164 for a set in one.
_PER_VALUE = 160
#: The share of its time for which a call waits. The other half is there for another node, and for the response.
_SHARE_OF_TIME = 0.5


def weight_of(raw: bytes) -> int:
    """Return the bytes of memory that reading this JSON takes at most, roughly; a millisecond for 4 MB."""
    return _PER_BYTE * len(raw) + _PER_VALUE * count_values(raw)


class MemoryBudget:
    """
    A weighted semaphore, first come first served. Thread-safe.

    Args:
        size: Bytes of memory that may be taken at once.

    .. versionadded:: 0.1
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._lock = threading.Lock()
        # Guarded by _lock: what is free, and the threads that wait.
        self._free = size
        self._waiting: deque[_Turn] = deque()
        _fork.watch(self)

    @property
    def free(self) -> int:
        """Bytes that are not taken."""
        return self._free

    @property
    def waiting(self) -> int:
        """How many threads wait."""
        return len(self._waiting)

    def share(self, raw: bytes, seconds: Callable[[], float]) -> contextlib.AbstractContextManager[None]:
        """
        Return a context in which this JSON may be read, and what was read may be used.

        Args:
            raw: The JSON.
            seconds: Returns those that the call still has; half of them are waited for at most.

        Raises:
            Refused: When the context is entered; there was no room in time.
        """
        return _NOTHING if len(raw) < SMALL else _Share(self, weight_of(raw), seconds() * _SHARE_OF_TIME)

    def room(self, weight: int, seconds: Callable[[], float]) -> contextlib.AbstractContextManager[None]:
        """
        Return a context in which so many bytes of memory may be used, as ``share`` does.

        Args:
            weight: The bytes.
            seconds: As in ``share``.

        Raises:
            Refused: As ``share`` does.
        """
        return _NOTHING if weight < SMALL else _Share(self, weight, seconds() * _SHARE_OF_TIME)

    def acquire(self, weight: int, timeout: float) -> bool:
        """
        Take a share, now or when its turn comes.

        Args:
            weight: Bytes. One above ``size`` takes all there is.
            timeout: Seconds; zero or less does not wait.

        Returns:
            Whether it was taken; ``release`` gives the same weight back.
        """
        weight = min(weight, self.size)
        with self._lock:
            if weight <= self._free and not self._waiting:
                self._free -= weight
                return True
            if timeout <= 0:
                return False
            turn = _Turn(weight)
            self._waiting.append(turn)
        try:
            turn.come.wait(min(timeout, threading.TIMEOUT_MAX))
        except BaseException:
            # Whatever ends this thread here must not end the share, too.
            if self._is_given(turn):
                self.release(weight)
            raise
        return self._is_given(turn)

    def release(self, weight: int) -> None:
        """Release a share."""
        with self._lock:
            self._free += min(weight, self.size)
            self._pass_on_locked()

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``: the parent's threads, and their shares, are not here."""
        self._lock = threading.Lock()
        self._free = self.size
        self._waiting = deque()

    def _is_given(self, turn: _Turn) -> bool:
        """Return whether the turn has come, perhaps in the very moment in which the time was up; end the wait."""
        with self._lock:
            if turn.come.is_set():
                return True
            self._waiting.remove(turn)
            self._pass_on_locked()  # those behind it may be lighter
            return False

    def _pass_on_locked(self) -> None:
        while self._waiting and self._waiting[0].weight <= self._free:
            turn = self._waiting.popleft()
            self._free -= turn.weight
            turn.come.set()


class _Turn:
    """A thread that waits. ``come`` is set under the lock of the budget."""

    __slots__ = ("come", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.come = threading.Event()


class _Share:
    """A share for as long as its block runs. Not thread-safe."""

    __slots__ = ("_budget", "_timeout", "_weight")

    def __init__(self, budget: MemoryBudget, weight: int, timeout: float) -> None:
        self._budget = budget
        self._weight = weight
        self._timeout = timeout

    def __enter__(self) -> None:
        if not self._budget.acquire(self._weight, self._timeout):
            text = "the node has as many large requests in its memory as it may have; ask another node"
            raise Refused(Reason.NO_MEMORY, text)

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self._budget.release(self._weight)


_NOTHING: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
