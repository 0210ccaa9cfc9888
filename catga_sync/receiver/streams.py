"""All streams that this process serves: how many there may be, and how they end together."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from catga_sync import _fork
from catga_sync._log_limit import LimitedLog
from catga_sync.receiver.stream import Serve, Stream
from catga_sync.wire.stream_keys import StreamKeys

__all__ = ["Streams", "end_all", "wait_all"]

_numbers = itertools.count(1)
_all: weakref.WeakSet[Streams] = weakref.WeakSet()


class Streams:
    """
    The streams of one node in this process. Thread-safe; it starts no thread before the first stream.

    Args:
        most: Streams that may be open at once; 0 offers none.
        max_body_bytes: The longest payload.
        limited_log: Bounds the lines about misuse; None means one of its own.
        monotonic: The clock; None means ``time.monotonic``.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        most: int,
        *,
        max_body_bytes: int = 4 * 1024 * 1024,
        limited_log: LimitedLog | None = None,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self.most = most
        self.max_body_bytes = max_body_bytes
        self.limited_log = LimitedLog() if limited_log is None else limited_log
        self.monotonic = time.monotonic if monotonic is None else monotonic
        self._changed = threading.Condition()
        # Guarded by _changed: the open streams, and whether no further one is taken.
        self._open: set[Stream] = set()
        self._ended = False
        #: Also guarded: a pipe in which a byte wakes all threads, made with the first stream.
        self._wake: tuple[int, int] | None = None
        self._close_wake: weakref.finalize[..., Any] | None = None
        _fork.watch(self)
        _all.add(self)

    @property
    def open_streams(self) -> int:
        """How many streams are open."""
        return len(self._open)

    @property
    def running(self) -> int:
        """How many calls run."""
        return sum(each.busy for each in list(self._open))

    @property
    def has_ended(self) -> bool:
        """Whether no further stream is taken, since the worker or the node ends."""
        return self._ended

    @property
    def has_room(self) -> bool:
        """Whether a further stream may be opened."""
        return not self._ended and len(self._open) < self.most

    def start(
        self,
        sock: socket.socket,
        keys: StreamKeys | None,
        serve: Serve,
        *,
        remote_address: str | None,
        hung_up: Callable[[socket.socket], bool],
    ) -> bool:
        """
        Serve a stream in a thread of its own, until it ends.

        Args:
            sock: The connection, which belongs to the stream from now on.
            keys: Make the MACs of its frames; None means that it is not signed.
            serve: Runs a call.
            remote_address: Address of the caller.
            hung_up: Returns whether the caller has closed its side.

        Returns:
            Whether there was room for it; if not, the caller is told so, and the connection is closed.
        """
        with self._changed:
            stream = Stream(self, sock, keys, serve, remote_address, hung_up, self._wake_up_call())
            took = self.has_room
            if took:
                self._open.add(stream)
        why = "the worker ends" if self._ended else "the node has as many streams as it may"
        if took:
            try:
                threading.Thread(target=stream.run, name=f"catga-stream-{next(_numbers)}", daemon=True).start()
            except RuntimeError:
                took, why = False, "no further thread can be started"
        if not took:
            stream.refuse(why)
            self.closed(stream)
        return took

    def end(self, reason: str = "the node goes offline") -> None:
        """End every stream after the call that it runs, and take no further one. Returns at once."""
        with self._changed:
            if self._ended:
                return
            self._ended = True
            for each in self._open:
                each.end(reason)
            if self._wake is not None:
                # Never read: every thread that waits is woken, and so is one that is about to wait. Under the lock, so
                # that the descriptor is not closed meanwhile; a pipe has room for its only byte.
                os.write(self._wake[1], b"!")

    def reopen(self) -> None:
        """Take streams again, if they were ended. Those that are open still need their pipe otherwise."""
        with self._changed:
            if self._ended:
                self._drop_wake()
                self._ended = False

    def wait(self, timeout: float) -> bool:
        """
        Wait until all streams have ended, and their callers were told so; return False when the time was too short.

        Args:
            timeout: Seconds. The stream whose thread calls this is not waited for.
        """
        own = threading.get_ident()
        with self._changed:
            return self._changed.wait_for(
                lambda: all(each.has_said or each.thread == own for each in self._open), timeout
            )

    def said(self) -> None:
        """Note that a stream has told its caller that it goes."""
        with self._changed:
            self._changed.notify_all()

    def closed(self, stream: Stream) -> None:
        """Note that a stream has ended."""
        with self._changed:
            self._open.discard(stream)
            self._changed.notify_all()

    def _wake_up_call(self) -> int:
        """Return the descriptor that becomes readable when the streams are to end; needs the lock."""
        if self._wake is None:
            self._wake = os.pipe()
            self._close_wake = weakref.finalize(self, _close_both, self._wake)
            self._close_wake.atexit = False  # the streams end at the exit, too, and need it
        return self._wake[0]

    def _drop_wake(self) -> None:
        # Streams that have not ended yet have their reason, and look at it before they wait again.
        self._wake = None
        if self._close_wake is not None:
            self._close_wake()

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``: the streams are the parent's. Only their descriptors are closed here."""
        parents, self._open, self._ended = self._open, set(), False
        self._changed = threading.Condition()
        self._drop_wake()
        for each in parents:
            each.abandon()


def end_all(reason: str) -> None:
    """End the streams of every node of this process; see ``Streams.end``."""
    for each in list(_all):
        each.end(reason)


def wait_all(timeout: float) -> bool:
    """Wait until they have ended; see ``Streams.wait``."""
    end = time.monotonic() + timeout
    return all(each.wait(max(0.0, end - time.monotonic())) for each in list(_all))


def _close_both(descriptors: tuple[int, int]) -> None:
    for each in descriptors:
        with contextlib.suppress(OSError):
            os.close(each)
