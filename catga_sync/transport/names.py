"""Host names to addresses, within a time.

``getaddrinfo`` takes as long as the resolver likes, half a minute where a name server is silent, and nothing can
interrupt it. So it runs in a thread of its own while the caller waits for no longer than it has; callers that want
the same name share one look-up, and no more than two run at once, however many callers there are.

Nothing is kept: the system's resolver has a cache of its own, and a connection is made once for many calls.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections import deque
from typing import Any

__all__ = ["addresses_of"]

#: Look-ups that run at once; each may hang in a thread.
_AT_ONCE = 2

_Address = tuple[Any, ...]


class _LookUp:
    """One name on its way through the resolver."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.done = threading.Event()
        self.found: list[_Address] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except BaseException as exc:
            self.error = exc
        self.done.set()


class _Resolver:
    """The look-ups of one process. Thread-safe."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._lock = threading.Lock()
        # Guarded by _lock: what is looked up or waits for it, those of it that wait, and how many threads run.
        self._wanted: dict[tuple[str, int], _LookUp] = {}
        self._waiting: deque[_LookUp] = deque()
        self._threads = 0

    def look_up(self, host: str, port: int, timeout: float) -> list[_Address]:
        key = (host, port)
        with self._lock:
            wanted = self._wanted.get(key)
            if wanted is None:
                wanted = self._wanted[key] = _LookUp(host, port)
                self._waiting.append(wanted)
                if self._threads < _AT_ONCE:
                    self._threads += 1
                    threading.Thread(target=self._work, name="names", daemon=True).start()
        if not wanted.done.wait(timeout):
            raise TimeoutError(errno.ETIMEDOUT, f"the resolver has not answered for {host!r}")
        if wanted.error is not None:
            raise wanted.error
        return wanted.found

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                wanted = self._waiting.popleft()
            wanted.run()
            with self._lock:
                del self._wanted[(wanted.host, wanted.port)]


_resolver: _Resolver | None = None


def addresses_of(host: str, port: int, timeout: float) -> list[str]:
    """
    Return the addresses of a host, in the resolver's order; an address is its own.

    Args:
        host: A name or an address.
        port: Where it will be connected to.
        timeout: Seconds to wait.

    Raises:
        OSError: There is no such name (``socket.gaierror``), or the time was up (``TimeoutError``).
    """
    try:
        numeric = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        pass
    else:
        return [str(found[4][0]) for found in numeric]
    global _resolver  # noqa: PLW0603 - one for all connections of the process; a forked child makes its own
    resolver = _resolver
    if resolver is None or resolver.pid != os.getpid():
        resolver = _resolver = _Resolver()
    return [str(found[4][0]) for found in resolver.look_up(host, port, timeout)]
