"""What lives across a fork, and what is done to it there.

Python tells of ``os.fork`` (``os.register_at_fork``). A server that forks in C, as uWSGI does, tells nothing: its child
finds another process id at the beginning of a call, and then does the same, once.

Rules of this file:
1. Python can be told of hooks for ever only, so it is told of one weak set.
2. No lock of before the fork is used afterwards: a thread that is not there any more may hold it.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from typing import Protocol

__all__ = ["AcrossForks", "check_process", "watch"]


class AcrossForks(Protocol):
    """An object that lives across forks. Its methods are called by the thread that forks."""

    def before_fork(self) -> None:
        """Stop what cannot be copied."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Drop what belongs to the parent: locks, threads, connections. ``before_fork`` may not have been called."""


_watched: weakref.WeakSet[AcrossForks] = weakref.WeakSet()
#: The process whose objects the watched ones are, and by process the lock of the one thread that makes them so.
_pid = os.getpid()
_turns: dict[int, threading.Lock] = {}


def watch(thing: AcrossForks) -> None:
    """Have an object told of forks for as long as it lives."""
    _tell_python()
    _watched.add(thing)


def check_process() -> None:
    """Notice a fork that Python was not told of. It costs next to nothing where there was none; any thread may ask."""
    pid = os.getpid()
    if pid == _pid:
        return
    with _turns.setdefault(pid, threading.Lock()):
        if pid != _pid:
            _after_in_child()


@functools.cache
def _tell_python() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=check_process)


def _before() -> None:
    for each in list(_watched):
        each.before_fork()


def _after_in_parent() -> None:
    for each in list(_watched):
        each.after_fork_in_parent()


def _after_in_child() -> None:
    global _pid  # noqa: PLW0603 - one process, one id
    for each in list(_watched):
        each.after_fork_in_child()
    # Last: other threads of this process wait until all is done.
    _pid = os.getpid()
