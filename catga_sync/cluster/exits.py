"""Closing what serves when the interpreter ends."""

from __future__ import annotations

import atexit
import functools
import weakref
from typing import Protocol

__all__ = ["close_at_exit"]


class Closable(Protocol):
    """What is closed."""

    def close(self) -> None:
        """Let go of everything."""


# Weak: an interpreter that lives long and makes many mediators must not keep them all.
_open: weakref.WeakSet[Closable] = weakref.WeakSet()


def close_at_exit(thing: Closable) -> None:
    """Have ``thing`` closed when the interpreter ends, if it is still there."""
    _watch_exit()
    _open.add(thing)


@functools.cache
def _watch_exit() -> None:
    atexit.register(_close_all)


def _close_all() -> None:
    for each in list(_open):
        each.close()
