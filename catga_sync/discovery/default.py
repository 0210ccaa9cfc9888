"""The default store of a cluster: a file of this user, or during a test run the memory of this process.

A test that sends a request must not reach a server that a developer has left running. Whether a test run is on is asked
at every use of the store: a mediator is often made at import, before that can be known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from catga_sync.discovery.base import Discovery, place_of
from catga_sync.nodes import NodeRecord

__all__ = ["DefaultDiscovery"]


class DefaultDiscovery:
    """
    Uses one of two stores. Thread-safe.

    Args:
        shared: The store outside of test runs.
        alone: The store of this process.
        under_test: Returns whether a test run is on.
    """

    def __init__(self, shared: Discovery, alone: Discovery, under_test: Callable[[], bool]) -> None:
        self.shared = shared
        self._alone = alone
        self._under_test = under_test
        self.refresh_interval = shared.refresh_interval

    def register(self, record: NodeRecord, ttl: float) -> None:
        """See ``Discovery``."""
        self._store.register(record, ttl)

    def deregister(self, node_id: str, incarnation: str) -> None:
        """See ``Discovery``."""
        self._store.deregister(node_id, incarnation)

    def nodes(self) -> Sequence[NodeRecord]:
        """See ``Discovery``."""
        return self._store.nodes()

    def close(self) -> None:
        """See ``Discovery``."""
        self.shared.close()
        self._alone.close()

    @property
    def where(self) -> str:
        """See ``Discovery``."""
        return place_of(self._store)

    @property
    def _store(self) -> Discovery:
        return self._alone if self._under_test() else self.shared
