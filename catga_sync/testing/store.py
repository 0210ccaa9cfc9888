"""The discovery store of a simulation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from catga_sync.discovery.memory import MemoryDiscovery
from catga_sync.nodes import NodeRecord
from catga_sync.testing.clock import FakeClock

__all__ = ["SimulatedStore"]


class SimulatedStore:
    """A discovery store that can be down, and counts what it is asked for."""

    refresh_interval = 1.0

    def __init__(self, clock: FakeClock) -> None:
        self._store = MemoryDiscovery(clock=clock)
        self.is_down = False
        self.operations: Counter[str] = Counter()

    def register(self, record: NodeRecord, ttl: float) -> None:
        """See ``Discovery``."""
        self._count("register")
        self._store.register(record, ttl)

    def deregister(self, node_id: str, incarnation: str) -> None:
        """See ``Discovery``."""
        self._count("deregister")
        self._store.deregister(node_id, incarnation)

    def nodes(self) -> Sequence[NodeRecord]:
        """See ``Discovery``."""
        self._count("nodes")
        return self._store.nodes()

    def close(self) -> None:
        """See ``Discovery``."""

    def empty(self) -> None:
        """Lose everything, as a store does that is restarted without its data."""
        for record in self._store.nodes():
            self._store.deregister(record.node.node_id, record.node.incarnation)

    def _count(self, operation: str) -> None:
        self.operations[operation] += 1
        if self.is_down:
            raise ConnectionError("the simulated store is down")
