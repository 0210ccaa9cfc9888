"""The two clocks, so that tests can hold them."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock"]


class Clock(Protocol):
    """What the library asks of time. Thread-safe."""

    def monotonic(self) -> float:
        """Return seconds that never go back; for durations and deadlines."""

    def time(self) -> float:
        """Return seconds since the epoch; for what people or other machines read."""


class SystemClock:
    """The real clocks. Thread-safe."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)


SYSTEM_CLOCK: Clock = SystemClock()
