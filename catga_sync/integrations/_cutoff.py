"""Ends bodies that come in, and responses that are read, too slowly; for servers that expose their socket.

A server that reads a body waits in ``recv``, and the timeout of the socket starts again with every byte: gunicorn
collects 1024 bytes before it passes any on, which takes a quarter of an hour at a byte a second. Shutting the reading
side of the socket ends the wait at any moment and from any thread: ``recv`` returns nothing from then on, and the
response can still be written (but not over TLS, where OpenSSL takes the early end for an attack). The server closes the
connection after it. In the same way a response that its caller does not read blocks a thread in ``sendall``; shutting
both sides ends that.

A caller is verified only after its body was read. To keep slow bodies from blocking all threads, their number is
limited; above the limit the one that started first is cut off.

Rules of this file:
1. One thread watches all sockets of this process. The first socket starts it, and it ends after a while without any.
   No other thread waits for it.
2. A socket is shut while its body is read or its response is written, and never later: the next request may be on it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from catga_sync import _fork

__all__ = ["CutOff", "shut_reading"]

#: Seconds between two looks; a body may be cut off so much too late.
_LOOK = 0.25
#: Seconds after which a body counts as slow.
_SLOW = 0.25
#: Looks without any socket after which the thread ends.
_IDLE_LOOKS = 2


class CutOff:
    """
    Shut sockets at given times. Thread-safe.

    Args:
        most_slow: Returns how many slow bodies there may be at the same time.
    """

    def __init__(self, most_slow: Callable[[], int] = lambda: 4) -> None:
        self._most_slow = most_slow
        self.after_fork_in_child()
        _fork.watch(self)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``: none of the parent's bodies is read here, and its thread is not here either."""
        self._lock = threading.Lock()
        # Guarded by _lock: the sockets from which bodies are read (the oldest first), those to which responses are
        # written, and the thread that watches them.
        self._reading: dict[object, _Watched] = {}
        self._writing: dict[object, _Watched] = {}
        self._watcher: threading.Thread | None = None

    def reading(self, end: float, sock: Any) -> Callable[[], bool]:
        """
        Shut the reading side of ``sock`` at the monotonic time ``end``, or earlier if there are too many slow bodies.

        Returns:
            A function that cancels this, and returns whether the socket was shut already.
        """
        return self._watch_for(self._reading, end, sock)

    def writing(self, end: float, sock: Any) -> Callable[[], bool]:
        """Shut ``sock`` at the monotonic time ``end``; return a function as ``reading`` does."""
        return self._watch_for(self._writing, end, sock)

    def _watch_for(self, watched: dict[object, _Watched], end: float, sock: Any) -> Callable[[], bool]:
        key = object()
        with self._lock:
            if self._watcher is None:
                watcher = threading.Thread(target=self._watch, name="catga-cutoff", daemon=True)
                watcher.start()
                self._watcher = watcher
            watched[key] = _Watched(time.monotonic(), end, sock)

        def cancel() -> bool:
            with self._lock:
                return watched.pop(key, None) is None

        return cancel

    def _watch(self) -> None:
        pause = threading.Event()
        idle = 0
        while True:
            pause.wait(_LOOK)
            now = time.monotonic()
            with self._lock:
                idle = 0 if self._reading or self._writing else idle + 1
                if idle > _IDLE_LOOKS:
                    self._watcher = None
                    return
                # With the lock held, because of rule 2; a shutdown takes no time.
                for key, each in list(self._writing.items()):
                    if each.end <= now:
                        del self._writing[key]
                        _shut(each.sock, socket.SHUT_RDWR)
                slow = sum(now - each.began >= _SLOW for each in self._reading.values())
                too_many = max(0, slow - self._most_slow())
                for place, (key, each) in enumerate(list(self._reading.items())):
                    if each.end <= now or place < too_many:
                        del self._reading[key]
                        shut_reading(each.sock)


class _Watched(NamedTuple):
    began: float
    end: float
    sock: Any


def shut_reading(sock: Any) -> None:
    """Make ``recv`` return nothing more, in any thread. A socket that is closed already is left alone."""
    _shut(sock, socket.SHUT_RD)


def _shut(sock: Any, how: int) -> None:
    # shutdown() of an SSLSocket ends the encryption as well, and the response would be sent in clear.
    plain: Any = super(ssl.SSLSocket, sock) if isinstance(sock, ssl.SSLSocket) else sock
    with contextlib.suppress(OSError):
        plain.shutdown(how)
