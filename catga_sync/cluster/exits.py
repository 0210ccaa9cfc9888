"""Closes mediators at the end of the interpreter, and warns of those that were dropped without ``close``."""

from __future__ import annotations

import atexit
import functools
import sys
import warnings
import weakref
from typing import Protocol

__all__ = ["close_at_exit", "warn_of_unclosed"]


class Closable(Protocol):
    """An object that can be closed."""

    def close(self) -> None:
        """Close files, connections and threads."""


# Weak: an interpreter that lives long and makes many mediators must not keep them all.
_open: weakref.WeakSet[Closable] = weakref.WeakSet()


def close_at_exit(thing: Closable) -> None:
    """Close ``thing`` when the interpreter ends, if it still exists."""
    _watch_exit()
    _open.add(thing)


def warn_of_unclosed(node_id: str, mediator: object) -> None:
    """Warn that a mediator without an app was used and dropped; called in ``__del__``."""
    if sys.is_finalizing():
        return
    warnings.warn(
        f"cluster mediator {node_id!r} was not closed: call close(), or use it in a with block",
        ResourceWarning,
        stacklevel=3,
        source=mediator,
    )


@functools.cache
def _watch_exit() -> None:
    atexit.register(_close_all)


def _close_all() -> None:
    for each in list(_open):
        each.close()
