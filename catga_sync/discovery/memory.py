"""Records in the memory of one process: for tests, examples, and several apps in one server."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from catga_sync import _fork
from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync.errors import NodeIdTaken
from catga_sync.nodes import NodeRecord

__all__ = ["MemoryDiscovery"]


class MemoryDiscovery:
    """
    Keep the records in this object. Thread-safe. Mediators that are to find each other share one.

    Args:
        clock: Measures the age of records; None means the system's.

    .. versionadded:: 0.1
    """

    refresh_interval = 0.1
    where = "the memory of this process, which no other process sees"

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = SYSTEM_CLOCK if clock is None else clock
        self._lock = threading.Lock()
        # Guarded by _lock: node id -> record, monotonic time when it was written, monotonic time when it expires
        self._records: dict[str, tuple[NodeRecord, float, float]] = {}
        _fork.watch(self)

    def register(self, record: NodeRecord, ttl: float) -> None:
        """See ``Discovery``."""
        node_id = record.node.node_id
        now = self._clock.monotonic()
        with self._lock:
            held = self._records.get(node_id)
            if held is not None and held[2] > now and held[0].node.endpoint != record.node.endpoint:
                raise NodeIdTaken(node_id, str(held[0].node.endpoint))
            self._records[node_id] = (record, now, now + ttl)

    def deregister(self, node_id: str, incarnation: str) -> None:
        """See ``Discovery``."""
        with self._lock:
            held = self._records.get(node_id)
            if held is not None and held[0].node.incarnation == incarnation:
                del self._records[node_id]

    def nodes(self) -> Sequence[NodeRecord]:
        """See ``Discovery``."""
        now = self._clock.monotonic()
        with self._lock:
            held = list(self._records.values())
        return [replace(record, age=now - written) for record, written, expires in held if expires > now]

    def close(self) -> None:
        """See ``Discovery``. The records stay: other mediators may share this object."""

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``. The records are copies, and expire."""
        self._lock = threading.Lock()
