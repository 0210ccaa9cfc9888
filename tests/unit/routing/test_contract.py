"""Every built-in router is one."""

import random

from catga_sync.routing import create_router, router_names
from tests.contracts.router import HeldClock, RouterContract
from tests.tables import every_row


class TestRoundRobin(RouterContract):
    def make(self):
        return create_router("round-robin")


class TestRandom(RouterContract):
    def make(self):
        return create_router("random", rng=random.Random(1))


class TestWeightedRoundRobin(RouterContract):
    def make(self):
        return create_router("weighted-round-robin", rng=random.Random(1))


class TestConsistentHash(RouterContract):
    def make(self):
        return create_router("consistent-hash")


class TestLeastConnections(RouterContract):
    def make(self):
        return create_router("least-connections")


class TestLeastLoad(RouterContract):
    def make(self):
        return create_router("least-load")


class TestP2cEwma(RouterContract):
    def make(self):
        return create_router("p2c-ewma", rng=random.Random(1), clock=HeldClock())


class TestLocalFirst(RouterContract):
    def make(self):
        return create_router("local-first", node_id="a", has_room=lambda: False)


class TestLocalFirstElsewhere(RouterContract):
    """This node is a pure client, and the other router keeps count."""

    def make(self):
        return create_router("local-first", otherwise="least-connections")


class TestConsistentHashWithoutKeys(RouterContract):
    def make(self):
        return create_router("consistent-hash", key_of=lambda message: None, otherwise="p2c-ewma")


@every_row("name", router_names())
def test_no_built_in_router_is_left_out(name):
    made = [contract().make() for contract in RouterContract.__subclasses__()]
    assert type(create_router(name)) in map(type, made)
