"""The store of one process."""

from __future__ import annotations

import pytest

from catga_sync.discovery.memory import MemoryDiscovery
from tests.contracts.discovery import LONG, DiscoveryContract, HeldClock, ids, record


class TestMemory(DiscoveryContract):
    @pytest.fixture
    def store(self) -> MemoryDiscovery:
        self.clock = HeldClock()
        return MemoryDiscovery(clock=self.clock)

    @pytest.fixture
    def other(self, store: MemoryDiscovery) -> MemoryDiscovery:
        return store

    def test_the_age_is_exact_from_the_beginning(self, store: MemoryDiscovery) -> None:
        store.register(record(), LONG)
        assert self.clock is not None
        self.clock.seconds += 0.25
        assert [each.age for each in store.nodes()] == [0.25]


def test_two_stores_know_nothing_of_each_other() -> None:
    one, two = MemoryDiscovery(), MemoryDiscovery()
    one.register(record(), LONG)
    assert ids(two) == []
