"""One deadline for a whole call: monotonic inside, relative on the wire (gRPC's choice: safe from clock skew)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["NESTED_MARGIN", "Deadline", "check_timeout"]

#: Seconds that a nested call leaves its caller for answering.
NESTED_MARGIN = 0.010
#: Seconds; nothing waits longer, and no clock or lock of the system is asked to. Eleven days.
_LONGEST = 1e6


@dataclass(frozen=True)
class Deadline:
    """
    An instant on the monotonic clock. Immutable, thread-safe.

    .. versionadded:: 0.1
    """

    #: Seconds on the monotonic clock.
    at: float
    #: The clock; the system's, except in a simulation.
    monotonic: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)

    @classmethod
    def after(cls, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> Deadline:
        """Return the deadline that many seconds from now."""
        return cls(monotonic() + seconds, monotonic)

    def remaining(self) -> float:
        """Return the seconds left; zero or less when it has passed."""
        return self.at - self.monotonic()

    @property
    def expired(self) -> bool:
        """Whether it has passed."""
        return self.monotonic() >= self.at

    def nested(self, seconds: float) -> Deadline:
        """Return the deadline of a call made inside this one: its own, or this one's less a margin."""
        return Deadline(min(self.monotonic() + seconds, self.at - NESTED_MARGIN), self.monotonic)


def check_timeout(timeout: object) -> float:
    """
    Return a timeout in seconds as a float.

    Zero or less is fine and means "expired already": it is what is left of somebody's own budget.

    Raises:
        TypeError: It is not a number.
        ValueError: It is NaN.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout: give seconds as a number, or None for the default, not {timeout!r}")
    if timeout != timeout:
        raise ValueError("timeout: NaN is no number of seconds")
    return _LONGEST if timeout > _LONGEST else float(timeout)
