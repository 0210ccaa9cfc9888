"""The one thread a cluster mediator has, and what happens to it when the process forks.

Nothing starts at import or construction: the thread is started by the first call that needs it, in each process
for itself. Before a fork it is stopped, so that no lock of ours is held and no socket half used when the memory is
copied; afterwards it is started again where it is needed.

Rules of this file:
1. ``os.register_at_fork`` can be told things only once and for ever, so it is told of one weak set.
2. No lock is held while a step runs.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import weakref
from collections.abc import Callable

__all__ = ["Background"]

#: Seconds to wait for a step to end before a fork or at the end.
_PATIENCE = 2.0

_log = logging.getLogger(__name__)


class Background:
    """
    A daemon thread that calls ``step`` again and again. Thread-safe.

    Args:
        name:
            Of the thread.

        step:
            Called in the thread; returns the seconds until it wants to be called again. What it raises is logged.

        in_child:
            Called in a forked child, before anything else of this object: drop what belongs to the parent. Returns
            whether the thread is to be started there.

        in_parent:
            Called in the parent after a fork; returns whether the thread, if it was running, is to go on.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], float],
        *,
        in_child: Callable[[], bool],
        in_parent: Callable[[], bool],
    ) -> None:
        self._name = name
        self._step = step
        self._in_child = in_child
        self._in_parent = in_parent
        self._lock = threading.Lock()
        # Guarded by _lock: the thread, whether it may be started, and whether it ran when the process forked.
        self._thread: threading.Thread | None = None
        self._closed = False
        self._paused = False
        self._wake = threading.Event()
        #: Whether the thread is there; read without the lock, on the way of every call.
        self.running = False
        _watch(self)

    def ensure(self) -> None:
        """Start the thread if it is not running, unless ``stop`` was called."""
        if self.running:
            return
        with self._lock:
            if self.running or self._closed:
                return
            self._wake = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(self._wake,), name=self._name, daemon=True)
            self.running = True
            self._thread.start()

    def poke(self) -> None:
        """Have the next step run now."""
        self._wake.set()

    def stop(self, *, closed: bool = True) -> None:
        """End the thread and wait for it, for two seconds at most; with ``closed`` it is not started again."""
        with self._lock:
            self._closed = self._closed or closed
            thread, self._thread = self._thread, None
            self.running = False
            self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_PATIENCE)

    def reopen(self) -> None:
        """Allow ``ensure`` again after ``stop``."""
        with self._lock:
            self._closed = False

    def _run(self, wake: threading.Event) -> None:
        while self._thread is threading.current_thread():
            try:
                pause = self._step()
            except BaseException:  # a store or a listener of the user's own may raise anything; the thread goes on
                _log.exception("%s: a step failed", self._name)
                pause = 1.0
            wake.wait(pause)
            if self._thread is threading.current_thread():
                wake.clear()

    # -- forks ----------------------------------------------------------------------------------------------------

    def _before_fork(self) -> None:
        self._paused = self.running
        if self._paused:
            self.stop(closed=False)

    def _after_in_parent(self) -> None:
        if self._in_parent() and self._paused:
            self.ensure()

    def _after_in_child(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread = None
        self.running = False
        if self._in_child() and not self._closed:
            self.ensure()


_watched: weakref.WeakSet[Background] = weakref.WeakSet()


def _watch(background: Background) -> None:
    _tell_os()
    _watched.add(background)


@functools.cache
def _tell_os() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


def _before_fork() -> None:
    for each in list(_watched):
        each._before_fork()


def _after_in_parent() -> None:
    for each in list(_watched):
        each._after_in_parent()


def _after_in_child() -> None:
    for each in list(_watched):
        each._after_in_child()
