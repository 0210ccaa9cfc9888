"""Any node, by chance."""

import os
import random
from collections import Counter

import pytest

from catga_sync.routing import create_router
from tests.contracts.router import GetThing, nodes_named
from tests.tables import every_row


def test_every_node_has_the_same_chance():
    router = create_router("random", rng=random.Random(1))
    nodes = nodes_named(*"abcdefghij")
    taken = Counter(router.route(GetThing(), nodes).node_id for _ in range(100_000))
    # Nine degrees of freedom: chi square is below 21.7 in 99 of 100 seeds, and this is one of them.
    assert sum((count - 10_000) ** 2 / 10_000 for count in taken.values()) < 21.7


@every_row("size", [1, 2, 3, 1000])
def test_the_highest_lot_takes_the_last_node(size):
    class Highest(random.Random):
        def random(self):
            return 1.0 - 2.0**-53

    nodes = nodes_named(*map(str, range(size)))
    assert create_router("random", rng=Highest()).route(GetThing(), nodes) is nodes[-1]


def test_the_same_seed_makes_the_same_choices():
    nodes = nodes_named("a", "b", "c")
    one, other = (create_router("random", rng=random.Random(5)) for _ in range(2))
    assert [one.route(GetThing(), nodes) for _ in range(50)] == [other.route(GetThing(), nodes) for _ in range(50)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_workers_do_not_all_make_the_same_choices():
    router = create_router("random")
    nodes = nodes_named(*map(str, range(256)))
    seen = set()
    for _ in range(3):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.write(writing, " ".join(router.route(GetThing(), nodes).node_id for _ in range(8)).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            seen.add(pipe.read())
    assert len(seen) == 3
