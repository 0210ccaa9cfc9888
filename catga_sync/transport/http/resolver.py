"""The addresses of a host name, looked up within a time limit.

``getaddrinfo`` blocks for as long as the resolver does, half a minute where a name server is silent, and cannot be
interrupted. So it runs in a thread of its own, and the caller stops waiting when its time is up:

* Callers that want the same name share one look-up. Up to 16 names are looked up at once.
* ``localhost`` is not looked up: it is the loopback addresses (RFC 6761, 6.3).
* The last result is used for five minutes while a fresh look-up is late or the name server fails (RFC 8767): a
  connection may be as old, and misses a change of DNS for as long.

No other result is kept: the system's resolver has a cache, and a connection serves many calls.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from typing import Any

from catga_sync import _fork
from catga_sync._endpoint import reason_against_address

__all__ = ["addresses_of"]

#: Look-ups that run at once, each in a thread of its own; further ones wait.
AT_ONCE = 16
#: Seconds after which a look-up is late.
PATIENCE = 0.25
#: Names whose last result is kept, and for how many seconds.
MAX_KNOWN, MAX_KNOWN_AGE = 1000, 300.0

#: In the order of RFC 6724. The error of the last address is the one that is shown, and every machine has that one.
_LOOPBACK = ["::1", "127.0.0.1"]

_Address = tuple[Any, ...]


class _Resolver:
    """The look-ups of one process. Thread-safe."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.after_fork_in_child()
        _fork.watch(self)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``. The threads of the parent's look-ups are not in the child."""
        self._lock = threading.Lock()
        # Guarded by _lock: the look-ups that run or wait, the names that wait, the number of threads, and the last
        # result of each name with its time, the oldest first.
        self._wanted: dict[tuple[str, int], Future[list[_Address]]] = {}
        self._waiting: deque[tuple[str, int]] = deque()
        self._threads = 0
        self._known: dict[tuple[str, int], tuple[list[_Address], float]] = {}

    def look_up(self, host: str, port: int, timeout: float) -> list[_Address]:
        key = (host, port)
        with self._lock:
            known, since = self._known.get(key, (None, 0.0))
            if known is not None and self._monotonic() - since > MAX_KNOWN_AGE:
                known = None
            wanted = self._wanted.get(key)
            if wanted is None:
                if self._threads < AT_ONCE:
                    # It waits for the lock, and then finds the name that is added below.
                    threading.Thread(target=self._work, name="catga-names", daemon=True).start()
                    self._threads += 1
                wanted = self._wanted[key] = Future()
                self._waiting.append(key)
        try:
            return wanted.result(timeout if known is None else min(timeout, PATIENCE))
        except futures.TimeoutError as exc:
            if known is None:
                raise TimeoutError(errno.ETIMEDOUT, f"the resolver has not responded for {host!r}") from exc
            return known
        except socket.gaierror as exc:
            if known is None or not _may_pass(exc):
                raise
            return known

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                key = self._waiting.popleft()
            found: list[_Address] = []
            error: BaseException | None = None
            try:
                found = socket.getaddrinfo(*key, type=socket.SOCK_STREAM)
            except BaseException as exc:
                error = exc
            with self._lock:
                wanted = self._wanted.pop(key)
                if not _may_pass(error):
                    self._known.pop(key, None)
                if error is None:
                    self._known[key] = (found, self._monotonic())
                    while len(self._known) > MAX_KNOWN:
                        del self._known[next(iter(self._known))]
            if error is None:
                wanted.set_result(found)
            else:
                wanted.set_exception(error)


def _may_pass(error: BaseException | None) -> bool:
    """Return whether the name server failed, and the name may be right."""
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN


_resolver = _Resolver()


def addresses_of(host: str, port: int, timeout: float) -> list[str]:
    """
    Return the addresses of a host in the resolver's order, without those that no node can have. Thread-safe.

    Args:
        host: A name or an address.
        port: The port of the connection that is to be made.
        timeout: Seconds to wait.

    Raises:
        OSError: There is no such name (``socket.gaierror``), the time was up (``TimeoutError``), or no node can have
            any of its addresses.
    """
    found = _addresses_of(host, port, timeout)
    reasons = [reason_against_address(ipaddress.ip_address(each.partition("%")[0])) for each in found]
    fit = [each for each, reason in zip(found, reasons, strict=True) if reason is None]
    if found and not fit:
        raise OSError(f"{host} leads to {found[0]}, which {reasons[0]}")
    return fit


def _addresses_of(host: str, port: int, timeout: float) -> list[str]:
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return list(_LOOPBACK)
    try:
        numeric = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        pass
    else:
        return [str(found[4][0]) for found in numeric]
    _fork.check_process()
    return [str(found[4][0]) for found in _resolver.look_up(host, port, timeout)]
