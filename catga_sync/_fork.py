"""The one place where objects with state of one process register, and are called at a fork.

Python reports ``os.fork`` (``os.register_at_fork``). A fork in C, as in uWSGI, is not reported: the child finds another
process id at the beginning of a call, and the same is done then, once.

Rules of this file:
1. Python keeps its fork hooks for good, so it gets one set of them, and the objects are held weakly.
2. No lock of before the fork is used afterwards: a thread that the child does not have may hold it.
3. An object is registered when it is made, so after the objects that it uses. ``before_fork`` goes from the last to the
   first: threads stop before what they use is closed. Afterwards it goes from the first to the last: a thread starts
   again when what it uses is ready.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import Protocol, runtime_checkable

__all__ = ["AcrossForks", "Forkable", "check_process", "watch", "watch_given"]

_log = logging.getLogger(__name__)


@runtime_checkable
class AcrossForks(Protocol):
    """An object with state that belongs to one process. Its methods are called by the thread that forks."""

    def after_fork_in_child(self) -> None:
        """
        Drop what belongs to the parent: locks, threads, connections.

        After a fork in C ``before_fork`` was not called, and other threads of the child may run already.
        """


@runtime_checkable
class Forkable(AcrossForks, Protocol):
    """An object that has to do something in the parent as well."""

    def before_fork(self) -> None:
        """Stop what cannot be copied."""

    def after_fork_in_parent(self) -> None:
        """Go on."""


#: id() of an object -> what returns it, or None once it is gone. In the order of registration.
_watched: dict[int, Callable[[], AcrossForks | None]] = {}
#: The process to which the registered objects belong; compared with the present one where a call of ``check_process``
#: would cost too much.
pid = os.getpid()
#: Process -> the lock of the one thread that makes the objects its own.
_turns: dict[int, threading.Lock] = {}
#: The process and the thread that make the objects their own now: an object may call others, which check the process.
_caller = (0, 0)


def watch(thing: AcrossForks) -> None:
    """Call an object at every fork as long as it lives. A second registration changes nothing."""
    _register_hooks()
    key = id(thing)
    if key not in _watched:
        _watched[key] = weakref.ref(thing, lambda _: _watched.pop(key, None))


def watch_given(thing: object) -> None:
    """Do the same for an object of the user's own, if it has ``after_fork_in_child``."""
    if isinstance(thing, AcrossForks):
        try:
            watch(thing)
        except TypeError:  # its class allows no weak references: it is kept for good
            _watched[id(thing)] = lambda: thing


def check_process() -> None:
    """Notice a fork that Python has not reported. Cheap where there was none; for any thread."""
    present = os.getpid()
    if present == pid or _caller == (present, threading.get_ident()):
        return
    with _turns.setdefault(present, threading.Lock()):
        if present != pid:
            _after_in_child()


@functools.cache
def _register_hooks() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=check_process)


def _living() -> list[AcrossForks]:
    found = [get() for get in list(_watched.values())]
    return [each for each in found if each is not None]


def _before() -> None:
    for each in reversed(_living()):
        if isinstance(each, Forkable):
            _call(each.before_fork)


def _after_in_parent() -> None:
    for each in _living():
        if isinstance(each, Forkable):
            _call(each.after_fork_in_parent)


def _after_in_child() -> None:
    global pid, _caller  # noqa: PLW0603 - one process, one id
    present = os.getpid()
    _caller = (present, threading.get_ident())
    for each in _living():
        _call(each.after_fork_in_child)
    # Last: other threads of this process wait until all is done.
    pid, _caller = present, (0, 0)


def _call(method: Callable[[], object]) -> None:
    """Log what an object raises: the others are called all the same."""
    try:
        method()
    except Exception:
        _log.exception("%s failed at a fork", getattr(method, "__qualname__", method))
