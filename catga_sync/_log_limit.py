"""Limits the lines of a log: refused calls could otherwise fill it.

    refused: request_id=... status=401 ...                                             ten times in a second
    left out of this log: 990 x refused: status=401 code=UNAUTHENTICATED               after that second

Rule of this file: nothing is written while the lock is held.
"""

from __future__ import annotations

import logging
import threading

from catga_sync import _fork
from catga_sync._clock import SYSTEM_CLOCK, Clock

__all__ = ["LimitedLog"]

#: Lines that are written for one reason in one window, and the length of the window in seconds.
_MOST, _SECONDS = 10, 1.0
#: With this many reasons, those with finished windows are dropped.
_MANY_REASONS = 500

#: The logger and the reason.
_Key = tuple[logging.Logger, str]


class _Window:
    """The lines of one reason since a time. Guarded by the lock of its log."""

    __slots__ = ("began", "left_out", "level", "written")

    def __init__(self, began: float, level: int) -> None:
        self.began = began
        self.level = level
        self.written = 0
        self.left_out = 0


class LimitedLog:
    """
    Write at most ten lines a second for each reason, and then how many were left out. Thread-safe, also after a fork.

    Args:
        clock: Measures the seconds; None means the system's.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = SYSTEM_CLOCK if clock is None else clock
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._windows: dict[_Key, _Window] = {}
        _fork.watch(self)

    def log(
        self,
        log: logging.Logger,
        level: int,
        reason: str,
        text: str,
        *args: object,
        exc_info: BaseException | None = None,
    ) -> None:
        """
        Write a line, or count it as left out.

        Args:
            log: The logger.
            level: As in ``logging``.
            reason: The text that groups lines; there are few different ones.
            text: As in ``logging``, and so are ``args`` and ``exc_info``.
        """
        key, now = (log, reason), self._clock.monotonic()
        with self._lock:
            over = self._pop_over_locked(now) if len(self._windows) >= _MANY_REASONS else {}
            window = self._windows.get(key)
            if window is not None and now - window.began >= _SECONDS:
                over[key] = self._windows.pop(key)
                window = None
            if window is None:
                window = self._windows[key] = _Window(now, level)
            is_written = window.written < _MOST
            if is_written:
                window.written += 1
            else:
                window.left_out += 1
        self._write(over)
        if is_written:
            log.log(level, text, *args, exc_info=exc_info, stacklevel=2)

    def tell_left_out(self) -> None:
        """Log the number of lines left out in finished windows. Call it periodically."""
        if not self._windows:
            return
        now = self._clock.monotonic()
        with self._lock:
            over = self._pop_over_locked(now)
        self._write(over)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``. The parent logs its own counts."""
        self._lock = threading.Lock()
        self._windows = {}

    def _pop_over_locked(self, now: float) -> dict[_Key, _Window]:
        """Return the windows that are over, and keep the others; with the lock held."""
        over = {key: window for key, window in self._windows.items() if now - window.began >= _SECONDS}
        for key in over:
            del self._windows[key]
        return over

    def _write(self, over: dict[_Key, _Window]) -> None:
        for (log, reason), window in over.items():
            if window.left_out:
                log.log(window.level, "left out of this log: %d x %s", window.left_out, reason)
