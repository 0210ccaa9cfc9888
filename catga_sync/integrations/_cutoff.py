"""Cutting off bodies that come too slowly, at servers that lend their socket.

A server that reads a body off its socket waits in ``recv``, and a timeout of that socket begins anew with every byte:
gunicorn gathers 1024 of them before it hands any over, which takes a quarter of an hour at a byte a second. What does
end the reading, at any moment and from any thread, is shutting the socket's reading side: ``recv`` gives nothing from
then on, while the answer can still be written (not so over TLS: OpenSSL takes the early end for an attack). The server
closes the connection after it.

Rules of this file:
1. One thread watches all bodies of this process. The first body starts it, and it ends when there has been none for a
   while. No body waits for it: it looks around by itself.
2. A socket is shut while its body is being read, and never later: the next request may be on it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["CutOff", "shut_reading"]

#: Seconds between two looks, by which a body may be cut off too late.
_LOOK = 0.25
#: Looks without any body after which the thread ends.
_IDLE_LOOKS = 2


class CutOff:
    """Shut the reading side of sockets at given times. Thread-safe."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """In a forked child: none of the parent's bodies is read here, and its thread is not here either."""
        self._lock = threading.Lock()
        # Guarded by _lock: the sockets whose bodies are being read, each with its end, and who watches them.
        self._reading: dict[object, tuple[float, Any]] = {}
        self._watcher: threading.Thread | None = None

    def at(self, end: float, sock: Any) -> Callable[[], None]:
        """Shut the reading side of ``sock`` at that monotonic time; return what calls it off."""
        key = object()
        with self._lock:
            if self._watcher is None:
                watcher = threading.Thread(target=self._watch, name="catga-cutoff", daemon=True)
                watcher.start()
                self._watcher = watcher
            self._reading[key] = (end, sock)

        def call_off() -> None:
            with self._lock:
                self._reading.pop(key, None)

        return call_off

    def _watch(self) -> None:
        pause = threading.Event()
        idle = 0
        while True:
            pause.wait(_LOOK)
            now = time.monotonic()
            with self._lock:
                idle = 0 if self._reading else idle + 1
                if idle > _IDLE_LOOKS:
                    self._watcher = None
                    return
                # Within the lock, which costs next to nothing: see rule 2.
                for key, (end, sock) in list(self._reading.items()):
                    if end <= now:
                        del self._reading[key]
                        shut_reading(sock)


def shut_reading(sock: Any) -> None:
    """Have ``recv`` give nothing more, whoever waits in it. A socket that is closed already is left alone."""
    # shutdown() of a TLS socket would end the encryption as well, and the answer would go out in clear.
    plain: Any = super(ssl.SSLSocket, sock) if isinstance(sock, ssl.SSLSocket) else sock
    with contextlib.suppress(OSError):
        plain.shutdown(socket.SHUT_RD)
