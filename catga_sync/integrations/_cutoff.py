"""Ending requests that come, and responses that are taken, too slowly; at servers that lend their socket.

A server that reads a body off its socket waits in ``recv``, and a timeout of that socket begins anew with every byte:
gunicorn gathers 1024 of them before it hands any over, which takes a quarter of an hour at a byte a second. What does
end the reading, at any moment and from any thread, is shutting the socket's reading side: ``recv`` gives nothing from
then on, while the response can still be written (not so over TLS: OpenSSL takes the early end for an attack). The
server closes the connection after it. A response that its caller does not read holds a thread in ``sendall`` just so;
shutting both sides ends that.

A caller is not verified before its body was read. So that slow bodies cannot hold all threads, only so many may be slow
at once; of more than that, the one that began first is cut off.

Rules of this file:
1. One thread watches all sockets of this process. The first one starts it, and it ends when there has been none for a
   while. Nothing waits for it: it looks around by itself.
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

__all__ = ["CutOff", "shut", "shut_reading"]

#: Seconds between two looks, by which a body may be cut off too late.
_LOOK = 0.25
#: Seconds for which a body has been coming in that counts as slow.
_SLOW = 0.25
#: Looks without any socket after which the thread ends.
_IDLE_LOOKS = 2


class CutOff:
    """
    Shut sockets at given times. Thread-safe.

    Args:
        most_slow: Returns how many bodies may come in slowly at once.
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
        Shut the reading side of ``sock`` at that monotonic time, or earlier if too many bodies come in slowly.

        Returns:
            What calls it off, and returns whether it came too late.
        """
        return self._watch_for(self._reading, end, sock)

    def writing(self, end: float, sock: Any) -> Callable[[], bool]:
        """Shut ``sock`` at that monotonic time; return as ``reading`` does."""
        return self._watch_for(self._writing, end, sock)

    def _watch_for(self, watched: dict[object, _Watched], end: float, sock: Any) -> Callable[[], bool]:
        key = object()
        with self._lock:
            if self._watcher is None:
                watcher = threading.Thread(target=self._watch, name="catga-cutoff", daemon=True)
                watcher.start()
                self._watcher = watcher
            watched[key] = _Watched(time.monotonic(), end, sock)

        def call_off() -> bool:
            with self._lock:
                return watched.pop(key, None) is None

        return call_off

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
                # Within the lock, which costs next to nothing: see rule 2.
                for key, each in list(self._writing.items()):
                    if each.end <= now:
                        del self._writing[key]
                        shut(each.sock)
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
    """Have ``recv`` give nothing more, in whichever thread. A socket that is closed already is left alone."""
    _shut(sock, socket.SHUT_RD)


def shut(sock: Any) -> None:
    """Have ``recv`` and ``send`` end, in whichever thread. A socket that is closed already is left alone."""
    _shut(sock, socket.SHUT_RDWR)


def _shut(sock: Any, how: int) -> None:
    # shutdown() of a TLS socket would end the encryption as well, and the response would go out in clear.
    plain: Any = super(ssl.SSLSocket, sock) if isinstance(sock, ssl.SSLSocket) else sock
    with contextlib.suppress(OSError):
        plain.shutdown(how)
