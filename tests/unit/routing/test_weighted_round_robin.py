"""Each node in turn, more often if it has less to do."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from catga_sync import ClusterNode
from catga_sync.routing import create_router
from tests.contracts.router import GetThing, Keyless, in_threads
from tests.tables import every_row

LOADS = {"idle": 10, "busy": 50, "full": 80}
SHARES = {"idle": 90 / 160, "busy": 50 / 160, "full": 20 / 160}


def loaded(**loads):
    return tuple(ClusterNode(name, f"http://{name}:5000", load=load) for name, load in loads.items())


def made(seed=1):
    return create_router("weighted-round-robin", rng=random.Random(seed))


def furthest_off(taken, shares, window=160):
    """Return by how many points any node is off its share in any window."""
    counts = Counter(taken[:window])
    off = 0.0
    for at in range(window, len(taken) + 1):
        off = max(off, *(abs(counts[node] / window - share) * 100 for node, share in shares.items()))
        if at < len(taken):
            counts[taken[at]] += 1
            counts[taken[at - window]] -= 1
    return off


@every_row("seed", range(10))
def test_loads_of_10_50_80_get_90_50_20_within_3_points_in_any_160_calls(seed):
    router, nodes = made(seed), loaded(**LOADS)
    taken = [router.route(GetThing(), nodes).node_id for _ in range(2000)]
    assert furthest_off(taken, SHARES) < 3


def test_so_do_the_calls_of_several_threads():
    router, nodes = made(), loaded(**LOADS)
    for _ in range(20):
        taken = []
        in_threads(lambda _, taken=taken: [taken.append(router.route(GetThing(), nodes).node_id) for _ in range(40)], 4)
        assert furthest_off(taken, SHARES) < 3  # these 160 calls follow each other, in whichever order


def test_so_do_calls_with_another_snapshot_every_time():
    router = made()
    taken = [router.route(GetThing(), loaded(**LOADS)).node_id for _ in range(2000)]
    assert furthest_off(taken, SHARES) < 3


def test_so_do_calls_whose_loads_change_a_little_every_time():
    router, chance = made(), random.Random(2)
    taken = []
    for _ in range(2000):
        nodes = loaded(**{name: load + chance.uniform(-2, 2) for name, load in LOADS.items()})
        taken.append(router.route(GetThing(), nodes).node_id)
    assert furthest_off(taken, SHARES) < 4


def test_second_tries_are_calls_too():
    router, nodes = made(), loaded(**LOADS)
    taken = []
    for _ in range(2000):
        first = router.route(GetThing(), nodes)
        taken.append(first.node_id)
        if first.node_id == "full":
            taken.append(router.route(GetThing(), tuple(node for node in nodes if node is not first)).node_id)
    counts = Counter(taken)
    assert counts["idle"] / counts["busy"] == pytest.approx(90 / 50, rel=0.02)
    assert counts["full"] / len(taken) == pytest.approx(SHARES["full"], rel=0.1)


def test_ten_percent_load_gets_visibly_more_than_eighty_in_every_ten_calls():
    router, nodes = made(), loaded(idle=10, full=80)
    taken = [router.route(GetThing(), nodes).node_id for _ in range(1000)]
    for at in range(len(taken) - 10):
        window = Counter(taken[at : at + 10])
        assert window["idle"] >= 7
        assert window["full"] >= 1


def test_it_does_not_take_one_node_many_times_and_then_the_other():
    router, nodes = made(), loaded(a=40, b=40, c=70)
    taken = "".join(router.route(GetThing(), nodes).node_id for _ in range(500))
    assert "aa" not in taken.replace("c", "")
    assert "bb" not in taken.replace("c", "")


@every_row(
    ("load", "weight", "expected"),
    [
        (0, None, 100),
        (99.5, None, 1),
        (100, None, 1),
        (250, None, 1),
        (-20, None, 100),
        (float("nan"), None, 1),
        (50, 2, 100),
        (50, 0.5, 25),
        (100, 3, 3),
        (50, 0, 50),
        (50, -1, 50),
        (50, "3", 50),
        (50, True, 50),
        (50, float("inf"), 50),
        (50, 10**9, 50_000),
    ],
)
def test_the_weight_is_what_is_left_of_100_times_what_the_metadata_say(load, weight, expected):
    metadata = {} if weight is None else {"weight": weight}
    nodes = (
        ClusterNode("it", None, load=load, metadata=metadata),
        ClusterNode("hundred", None, metadata={"zone": "a"}),
    )
    router = made()
    calls = 4040
    count = sum(router.route(GetThing(), nodes).node_id == "it" for _ in range(calls))
    assert abs(count - calls * expected / (expected + 100)) < 2


def test_equal_loads_are_taken_in_turn():
    router, nodes = made(), loaded(a=30, b=30, c=30)
    taken = [router.route(GetThing(), nodes).node_id for _ in range(30)]
    assert all(set(taken[at : at + 3]) == {"a", "b", "c"} for at in range(28))


def test_a_new_report_counts_at_once():
    router = made()
    for _ in range(5):
        router.route(GetThing(), loaded(a=0, b=100))
    taken = Counter(router.route(GetThing(), nodes).node_id for nodes in [loaded(a=100, b=0)] * 101)
    assert taken["b"] >= 98


def test_a_node_that_comes_back_is_not_given_what_it_missed():
    router = made()
    both = loaded(a=0, b=0)
    for _ in range(10):
        router.route(GetThing(), both)
    for _ in range(1000):
        router.route(GetThing(), both[:1])
    taken = Counter(router.route(GetThing(), both).node_id for _ in range(10))
    assert abs(taken["a"] - taken["b"]) <= 1


def test_a_node_that_joins_is_not_flooded():
    router = made()
    nodes = loaded(a=0, b=0)
    for _ in range(1000):
        router.route(GetThing(), nodes)
    more = (*nodes, *loaded(c=0))
    assert 3 <= Counter(router.route(GetThing(), more).node_id for _ in range(12))["c"] <= 5


def test_two_types_that_are_sent_alternately_both_go_to_every_node():
    router, nodes = made(), loaded(a=0, b=0)
    taken = [(router.route(GetThing(), nodes), router.route(Keyless(), nodes)) for _ in range(2)]
    assert {things for things, _ in taken} == {others for _, others in taken} == set(nodes)


def test_not_all_processes_begin_with_the_same_node():
    nodes = loaded(a=0, b=0, c=0)
    assert {made(seed).route(GetThing(), nodes).node_id for seed in range(30)} == {"a", "b", "c"}


def test_two_threads_that_see_different_snapshots_both_get_their_share():
    router = made()
    older, newer = loaded(**LOADS), loaded(**LOADS)
    newer = tuple(replace(node, incarnation="second") for node in newer)
    taken = []

    def work(thread):
        nodes = (older, newer)[thread]
        taken.extend(router.route(GetThing(), nodes).node_id for _ in range(80))

    in_threads(work, 2)
    assert furthest_off(taken, SHARES) < 3
