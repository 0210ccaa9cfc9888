"""The one thread of a cluster mediator, and its life across forks.

Nothing starts at import or construction: the thread is started by the first call that needs it, in each process
for itself. Before a fork it is stopped, so that no lock of ours is held and no socket half used when the memory is
copied; afterwards it is started again where it is needed.

Rules of this file:
1. The thread holds its owner weakly, and ends with it: an app that is dropped takes its thread along.
2. No lock is held while a step runs.
3. A process without the thread works: ``ensure`` returns False, and calls do the necessary steps themselves.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable

from catga_sync import _fork, _uwsgi

__all__ = ["Background"]

#: Seconds to wait for a step to end before a fork or at the end.
_PATIENCE = 2.0

_log = logging.getLogger(__name__)


class Background:
    """
    A daemon thread that calls ``step`` repeatedly. Thread-safe.

    Args:
        name:
            Of the thread.

        step:
            Called in the thread; returns the seconds until the next call. Exceptions are logged.

        starts_in_child:
            Called in a forked child; returns whether the thread is to be started there.

        goes_on_in_parent:
            Called in the parent after a fork; returns whether the thread, if it was running, is to go on.

        at_end:
            Called in the thread when this object is gone without ``stop``. It must not refer to this object.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], float],
        *,
        starts_in_child: Callable[[], bool],
        goes_on_in_parent: Callable[[], bool],
        at_end: Callable[[], object] = lambda: None,
    ) -> None:
        self._name = name
        self._step = step
        self._starts_in_child = starts_in_child
        self._goes_on_in_parent = goes_on_in_parent
        self._at_end = at_end
        self._lock = threading.Lock()
        # Guarded by _lock: the thread, whether it may be started, and whether it ran when the process forked.
        self._thread: threading.Thread | None = None
        self._closed = False
        self._paused = False
        self._wake = threading.Event()
        #: The process in which the thread runs, 0 for none; read without the lock, on the way of every call.
        self._pid = 0
        self._warned = False
        self._awaits_fork = False
        _fork.watch(self)

    def is_running(self) -> bool:
        """Return whether the thread runs in this process."""
        return self._pid == os.getpid()

    def ensure(self) -> bool:
        """Start the thread if it is not running; return whether it runs. After ``stop`` it does not."""
        if self._pid == os.getpid():
            return True
        _fork.check_process()
        return self._start()

    def _start(self) -> bool:
        if _uwsgi.is_to_fork():
            # A thread that is started now is lost at the fork, and its locks are not.
            self._start_after_fork()
            return False
        with self._lock:
            if self.is_running() or self._closed:
                return self.is_running()
            problem = self._problem_of_start_locked()
        if problem and not self._warned:
            self._warned = True
            _log.warning("%s: %s", self._name, problem)
        return not problem

    def _start_after_fork(self) -> None:
        if self._awaits_fork:
            return
        self._awaits_fork = True
        this = weakref.ref(self)

        def begin() -> None:
            background = this()
            if background is not None:
                background.ensure()

        _uwsgi.after_fork(begin)

    def _problem_of_start_locked(self) -> str:
        """Start the thread, or return why it cannot be."""
        if _uwsgi.stops_threads():
            return (
                "uWSGI runs no threads here, so this node sends no heartbeats and others do not see it; calls from "
                "here work. Start uWSGI with --enable-threads"
            )
        wake = threading.Event()
        # The callback wakes the thread when its owner is gone.
        owner = weakref.ref(self, lambda _: wake.set())
        thread = threading.Thread(target=_run, args=(owner, wake, self._at_end), name=self._name, daemon=True)
        self._wake, self._thread = wake, thread
        try:
            thread.start()
        except RuntimeError as exc:
            self._thread = None
            return f"no heartbeats are sent, and calls look after the cluster themselves: {exc}"
        self._pid = os.getpid()
        return ""

    def stop(self, *, closed: bool = True) -> None:
        """End the thread and wait for it, for two seconds at most; with ``closed`` it is not started again."""
        with self._lock:
            self._closed = self._closed or closed
            thread, self._thread = self._thread, None
            self._pid = 0
            self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_PATIENCE)

    def reopen(self) -> None:
        """Allow ``ensure`` again after ``stop``."""
        with self._lock:
            self._closed = False

    def turn(self) -> float | None:
        """Run one step in the calling thread; return the seconds until the next one, None when there is none."""
        if self._thread is not threading.current_thread():
            return None
        try:
            return self._step()
        except BaseException:  # SystemExit of a listener would end the thread and not the process
            _log.exception("%s: a step failed", self._name)
            return 1.0

    def before_fork(self) -> None:
        """See ``Forkable``."""
        self._paused = self.is_running()
        if self._paused:
            self.stop(closed=False)

    def after_fork_in_parent(self) -> None:
        """See ``Forkable``."""
        if self._paused and self._goes_on_in_parent():
            self.ensure()

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread = None
        self._pid = 0
        if not self._closed and self._starts_in_child():
            self._start()


def _run(owner: weakref.ref[Background], wake: threading.Event, at_end: Callable[[], object]) -> None:
    while True:
        wake.clear()
        background = owner()
        if background is None:
            at_end()
            return
        pause = background.turn()
        del background
        if pause is None:
            return
        wake.wait(pause)
