"""The deadline of a call: monotonic in the process, relative on the wire, as in gRPC, so clocks need not agree."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["NESTED_MARGIN", "Deadline", "DeadlineCells", "check_timeout", "deadline_at"]

#: Seconds that a nested call leaves its caller to respond.
NESTED_MARGIN = 0.010
#: Seconds, eleven days: longer timeouts are cut to this, which every clock and lock can handle.
_LONGEST = 1e6


class DeadlineCells:
    """The attributes of a deadline while they are set: ``Deadline`` refuses assignment, and to go round it is slow."""

    __slots__ = ("at", "monotonic")

    at: float
    monotonic: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Deadline:
    """
    An instant on the monotonic clock. Immutable, thread-safe.

    .. versionadded:: 0.1
    """

    #: Seconds on the monotonic clock.
    at: float
    #: The clock; that of the system except in a simulation.
    monotonic: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)

    @classmethod
    def after(cls, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> Deadline:
        """Return the deadline this many seconds from now."""
        return cls(monotonic() + seconds, monotonic)

    def remaining(self) -> float:
        """Return the seconds left; zero or less if the deadline has passed."""
        return self.at - self.monotonic()

    @property
    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return self.monotonic() >= self.at

    def nested(self, seconds: float) -> Deadline:
        """Return the deadline of a nested call: this many seconds from now, or a margin before this one if sooner."""
        return Deadline(min(self.monotonic() + seconds, self.at - NESTED_MARGIN), self.monotonic)


def deadline_at(at: float, monotonic: Callable[[], float] = time.monotonic) -> Deadline:
    """Return ``Deadline(at, monotonic)``, in a third of the time."""
    cells = DeadlineCells()
    cells.at = at
    cells.monotonic = monotonic
    cells.__class__ = Deadline  # type: ignore[assignment] # of the same layout
    return cells  # type: ignore[return-value] # by the line above


def check_timeout(timeout: object) -> float:
    """
    Return a timeout in seconds as a float.

    Zero or less is accepted and means "expired already", since a caller may pass the rest of its own time.

    Raises:
        TypeError: The timeout is not a number.
        ValueError: The timeout is NaN.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout: give seconds as a number, or None for the default, not {timeout!r}")
    if timeout != timeout:
        raise ValueError("timeout: NaN is not a number of seconds")
    return _LONGEST if timeout > _LONGEST else float(timeout)
