"""The connection that a thread reads from, so that another thread can end the reading.

Rule of this file: the lock is held for system calls that never wait, and for nothing else.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

__all__ = ["Line"]


class Line:
    """
    Hold the socket of the request that is under way.

    Thread-safe, but for ``expires``, ``reader`` and ``be_patient``, which belong to the thread that makes the requests.

    A read that waits does not notice that its descriptor is closed, but does notice that the connection is shut down,
    in TLS too. This is done on a descriptor of our own: nobody else can have closed it, and so have made its
    number somebody else's.
    """

    def __init__(self) -> None:
        #: Monotonic time at which the request that is under way has taken too long.
        self.expires = float("inf")
        #: The socket that the thread reads from.
        self.reader: Any = None
        self._lock = threading.Lock()
        # Guarded by _lock:
        self._copy: socket.socket | None = None
        self._ended = False

    def hold(self, sock: socket.socket) -> None:
        """
        Take note of the socket of a new connection.

        Raises:
            ConnectionAbortedError: ``end`` was called.
        """
        with self._lock:
            if self._ended:
                sock.close()
                raise ConnectionAbortedError("the request is not wanted any more")
            self._copy = sock.dup()

    def be_patient(self, seconds: float) -> None:
        """Wait so long for each further part of the answer."""
        if self.reader is not None:
            self.reader.settimeout(seconds)

    def cut(self) -> None:
        """End the request that is under way: its thread reads the end of the connection."""
        with self._lock:
            self._cut_locked()

    def end(self) -> None:
        """End the request that is under way, and let no other begin."""
        with self._lock:
            self._ended = True
            self._cut_locked()

    def close(self) -> None:
        """Let go of the connection when the request is over."""
        self.reader = None
        self.expires = float("inf")
        with self._lock:
            # Not only closed: a forked process may have a copy, and would keep it open.
            self._cut_locked()
            copy, self._copy = self._copy, None
            if copy is not None:
                copy.close()

    def forget(self) -> None:
        """In a forked child, where the lock may be held for ever: close the copies of the parent's descriptors."""
        self._lock = threading.Lock()
        copy, self._copy = self._copy, None
        for sock in (copy, self.reader):
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.close()

    def _cut_locked(self) -> None:
        if self._copy is not None:
            with contextlib.suppress(OSError):
                self._copy.shutdown(socket.SHUT_RDWR)
