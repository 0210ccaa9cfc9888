"""A bar that shows how far a part is: on stderr, and only where that is a terminal."""

from __future__ import annotations

import sys
from typing import TextIO

WIDTH = 40


class Progress:
    """
    Draw a bar. Not thread-safe.

    Args:
        title: What is written before the bar.
        total: How many ticks fill it.
        stream: Where it is drawn; None means stderr. Nothing is written if it is no terminal.
    """

    def __init__(self, title: str, total: int, stream: TextIO | None = None) -> None:
        self._title, self._total, self._done = title, max(1, total), 0
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty()

    def tick(self) -> None:
        """Go on by one step."""
        self._done += 1
        if self._shown:
            full = min(WIDTH, WIDTH * self._done // self._total)
            self._stream.write(f"\r{self._title:8} [{'#' * full}{'.' * (WIDTH - full)}] {self._done}/{self._total}")
            self._stream.flush()

    def clear(self) -> None:
        """Remove the bar."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
