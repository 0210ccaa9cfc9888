"""Claims in the memory of one process: the default. Other workers and other nodes do not see them.

Rules of this file:
1. No callback runs while the lock is held, and the time under it does not grow with the number of entries, but for the
   search of ``_make_room_locked``, which is rare.
2. Bounded: entries by number, responses by bytes. A running claim is never dropped.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable

from catga_sync import _fork
from catga_sync._checks import check_seconds, check_whole
from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync.idempotency.base import MAX_BODY_BYTES, Claim, ClaimState

__all__ = ["MemoryIdempotency"]

_NEW = ClaimState.NEW  # to look up the member of an Enum takes as long as a call
_FREE = Claim(_NEW)
_RUNNING = Claim(ClaimState.RUNNING)
_DONE = Claim(ClaimState.DONE)
_LOST = Claim(ClaimState.LOST)
_MISMATCH = Claim(ClaimState.MISMATCH)

#: The shortest wait for the end of a lease in seconds, so that no thread spins.
_LEAST_WAIT = 0.001


class _Entry:
    """One key. Guarded by the lock of its store."""

    __slots__ = ("body", "changed", "done", "fingerprint", "forget_at", "key", "lease_until", "size", "token")

    def __init__(self, key: str, fingerprint: str, token: str, lease_until: float, forget_at: float) -> None:
        self.key = key
        self.fingerprint = fingerprint
        self.token = token
        self.lease_until = lease_until
        self.forget_at = forget_at
        self.done = False
        #: The response, or what writes it; and its bytes.
        self.body: bytes | Callable[[], bytes] | None = None
        self.size = 0
        #: Made by the first thread that waits.
        self.changed: threading.Condition | None = None

    def seen(self, now: float) -> Claim:
        """Return how it stands; of a response that is kept, only the fact."""
        if self.done:
            return _DONE
        return _RUNNING if now < self.lease_until else _LOST


class MemoryIdempotency:
    """
    Keep claims and responses in this object. Thread-safe.

    With several workers or nodes a repeated request may reach one that has not seen it, and run again there.

    Args:
        ttl:
            Seconds for which a completed claim is kept, and a lost one from the end of its lease on.

        max_entries:
            The number of claims. At that number a new claim replaces the oldest completed one, or, if there is none,
            the oldest lost one: a request whose claim is gone runs again if it is repeated. Running claims are never
            dropped, and may be more.

        max_body_bytes:
            The longest response that is kept; of a longer one only the fact is.

        max_total_bytes:
            Bytes of all responses together. Above that the oldest responses are dropped, and their claims stay.

        clock:
            Measures leases and ``ttl``; None means the system's.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        *,
        ttl: float = 300.0,
        max_entries: int = 10_000,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_total_bytes: int = 64 * 1024 * 1024,
        clock: Clock | None = None,
    ) -> None:
        self._ttl = check_seconds("ttl", ttl)
        self._max_entries = check_whole("max_entries", max_entries, 1)
        self._max_body_bytes = check_whole("max_body_bytes", max_body_bytes, 0)
        self._max_total_bytes = check_whole("max_total_bytes", max_total_bytes, 0)
        self._clock = SYSTEM_CLOCK if clock is None else clock
        # Not started again after a fork: a token of before it is never valid after it.
        self._tokens = itertools.count(1)
        self.after_fork_in_child()
        _fork.watch(self)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``. The claims are dropped: the child has run nothing yet."""
        self._lock = threading.Lock()
        # The rest is guarded by _lock.
        self._entries: dict[str, _Entry] = {}
        # Completed ones, the oldest first. One whose key was claimed again after its ttl is for a moment here alone.
        self._done: deque[_Entry] = deque()
        # Those of _done whose response is kept, and the bytes of all these.
        self._kept: deque[_Entry] = deque()
        self._bytes = 0
        # Before this time no running entry becomes lost.
        self._lost_from = 0.0

    def claim(self, key: str, fingerprint: str, lease: float) -> Claim:
        """See ``IdempotencyStore``."""
        now = self._clock.monotonic()
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry.forget_at <= now:
                done = self._done
                if entry is None and (len(self._entries) >= self._max_entries or (done and done[0].forget_at <= now)):
                    self._make_room_locked(now)
                token, until = str(next(self._tokens)), now + lease
                self._entries[key] = _Entry(key, fingerprint, token, until, until + self._ttl)
                if until < self._lost_from:
                    self._lost_from = until
                return Claim(_NEW, token)
            if entry.fingerprint != fingerprint:
                return _MISMATCH
            seen, body = entry.seen(now), entry.body
        return _shown(seen, body)

    def complete(self, key: str, token: str, body: bytes | None) -> bool:
        """See ``IdempotencyStore``."""
        return self.keep(key, token, body, 0 if body is None else len(body))

    def keep(self, key: str, token: str, body: bytes | Callable[[], bytes] | None, size: int) -> bool:
        """
        Do what ``complete`` does with a response that is written when it is asked for; few ever are.

        Args:
            key: As in ``complete``.
            token: As in ``complete``.
            body: Returns the response. It is called without a lock, by any thread and any number of times.
            size: The bytes that the response takes.
        """
        now = self._clock.monotonic()
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry.token != token or entry.forget_at <= now:
                return False
            if entry.done:
                return True
            entry.done = True
            entry.forget_at = now + self._ttl
            self._done.append(entry)
            if body is not None and size <= self._max_body_bytes:
                entry.body, entry.size = body, size
                self._kept.append(entry)
                self._bytes += size
                while self._bytes > self._max_total_bytes:
                    self._drop_body_locked()
            if entry.changed is not None:
                entry.changed.notify_all()
        return True

    def release(self, key: str, token: str) -> None:
        """See ``IdempotencyStore``."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.token == token and not entry.done:
                del self._entries[key]
                if entry.changed is not None:
                    entry.changed.notify_all()

    def wait(self, key: str, timeout: float) -> Claim:
        """See ``IdempotencyStore``."""
        # The wait itself takes real time, whatever the clock of the leases shows.
        end = time.monotonic() + timeout
        with self._lock:
            while True:
                now, left = self._clock.monotonic(), end - time.monotonic()
                entry = self._entries.get(key)
                if entry is None or entry.forget_at <= now:
                    return _FREE
                seen = entry.seen(now)
                if seen is not _RUNNING or left <= 0:
                    body = entry.body
                    break
                if entry.changed is None:
                    entry.changed = threading.Condition(self._lock)
                entry.changed.wait(min(left, max(entry.lease_until - now, _LEAST_WAIT)))
        return _shown(seen, body)

    def close(self) -> None:
        """See ``IdempotencyStore``. The claims stay: several receivers may share this object."""

    def _make_room_locked(self, now: float) -> None:
        # At most two expired entries for each new one, so that no single claim takes long.
        for _ in range(2):
            if not self._done or now < self._done[0].forget_at:
                break
            self._drop_oldest_locked()
        while len(self._entries) >= self._max_entries and self._done:
            self._drop_oldest_locked()
        if len(self._entries) < self._max_entries or now < self._lost_from:
            return
        lost = next((each for each in self._entries.values() if each.lease_until <= now), None)
        if lost is not None:
            del self._entries[lost.key]
        else:
            self._lost_from = min((each.lease_until for each in self._entries.values()), default=0.0)

    def _drop_oldest_locked(self) -> None:
        entry = self._done.popleft()
        if self._kept and self._kept[0] is entry:
            self._drop_body_locked()
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]

    def _drop_body_locked(self) -> None:
        entry = self._kept.popleft()
        self._bytes -= entry.size
        entry.body = None


def _shown(seen: Claim, body: bytes | Callable[[], bytes] | None) -> Claim:
    if seen is not _DONE:
        return seen
    return Claim(ClaimState.DONE, body=body() if callable(body) else body)
