"""The better of two nodes, by how long its last calls took."""

import itertools
import math
import random
from collections import Counter
from dataclasses import replace

import pytest

from catga_sync import CatgaResult, Delivery, ErrorCode
from catga_sync.routing import create_router
from tests.contracts.router import GetThing, HeldClock, in_threads, nodes_named

NODES = nodes_named("a", "b")
A, B = NODES
OK = CatgaResult.success()
REFUSED = CatgaResult.failure("refused", ErrorCode.UNAVAILABLE, delivery=Delivery.NOT_EXECUTED)


class Lots(random.Random):
    """Draws the first node first, the last one when it is told so."""

    lot = 0.0

    def random(self):
        return self.lot


@pytest.fixture
def clock():
    return HeldClock()


@pytest.fixture
def lots():
    return Lots()


@pytest.fixture
def router(clock, lots):
    return create_router("p2c-ewma", clock=clock, rng=lots)


def call(router, nodes=NODES, took=0.005, result=OK):
    node = router.route(GetThing(), nodes)
    router.completed(node, GetThing(), result, took)
    return node.node_id


def learn(router, node, took, result=OK):
    """Have a node make one call that takes so long."""
    assert call(router, (node,), took, result) == node.node_id


def test_the_faster_of_two_is_taken(router):
    learn(router, A, 0.010)
    learn(router, B, 0.005)
    assert [call(router) for _ in range(5)] == ["b"] * 5


def test_calls_under_way_count_as_much_as_time(router):
    learn(router, A, 0.010)
    learn(router, B, 0.004)
    # b: 4, 8, 12 ms against a: 10, 20 ms
    assert [router.route(GetThing(), NODES).node_id for _ in range(3)] == ["b", "b", "a"]


def test_of_equals_the_first_that_was_drawn_is_taken(router, lots):
    learn(router, A, 0.005)
    learn(router, B, 0.005)
    assert call(router) == "a"
    lots.lot = 0.99
    learn(router, A, 0.005)
    assert call(router) == "b"


def test_a_slow_answer_counts_at_once_and_fades(router, clock):
    learn(router, A, 0.010)
    learn(router, B, 0.100)
    learn(router, B, 0.001)
    assert call(router, took=0.010) == "a"
    for _ in range(24):  # 100 ms * exp(-24 / 10) is 9 ms
        clock.seconds += 1.0
        learn(router, A, 0.010)
    assert call(router) == "b"


def test_a_node_that_nobody_asks_is_tried_again_some_day(router, clock):
    learn(router, A, 0.005)
    learn(router, B, 5.0)
    tried = []
    for _ in range(120):
        clock.seconds += 1.0
        learn(router, A, 0.005)
        tried.append(call(router, took=0.005))
    # 5 s * exp(-t / 10) is below 5 ms after 69 s
    assert tried.index("b") == pytest.approx(69, abs=1)


def test_a_node_of_which_nothing_is_known_gets_one_call_at_a_time(router):
    learn(router, A, 0.005)
    assert router.route(GetThing(), NODES) is B
    assert [router.route(GetThing(), NODES).node_id for _ in range(5)] == ["a"] * 5
    router.completed(B, GetThing(), OK, 0.001)
    assert router.route(GetThing(), NODES) is B


def test_of_two_unknown_nodes_the_one_with_fewer_calls_is_taken(router):
    assert [router.route(GetThing(), NODES).node_id for _ in range(4)] == ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("result", "speaks_against_it"),
    [
        (OK, False),
        (CatgaResult.failure("no such user", ErrorCode.NOT_FOUND), False),
        (CatgaResult.failure("no such user"), False),
        (CatgaResult.failure("no", "MY_CODE"), False),
        (CatgaResult.failure("wrong", ErrorCode.INVALID_ARGUMENT), False),
        (CatgaResult.failure("it raised", ErrorCode.UNKNOWN), True),
        (CatgaResult.failure("cannot be written", ErrorCode.INTERNAL), True),
        (CatgaResult.failure("its database is down", ErrorCode.UNAVAILABLE), True),
        (REFUSED, True),
        (CatgaResult.failure("too busy", ErrorCode.RESOURCE_EXHAUSTED, delivery=Delivery.NOT_EXECUTED), True),
        (CatgaResult.failure("no handler", ErrorCode.UNIMPLEMENTED, delivery=Delivery.NOT_EXECUTED), True),
        (CatgaResult.failure("cut off", ErrorCode.UNAVAILABLE, delivery=Delivery.UNKNOWN), True),
    ],
)
def test_a_node_that_fails_at_once_is_not_the_fastest(router, result, speaks_against_it):
    learn(router, A, 0.005)
    learn(router, B, 0.001, result)
    assert call(router) == ("a" if speaks_against_it else "b")


def test_a_failure_that_took_longer_than_the_penalty_counts_for_that_long(clock):
    router = create_router("p2c-ewma", clock=clock, rng=Lots(), failure_penalty=0.5)
    learn(router, A, 2.0, REFUSED)
    learn(router, B, 1.0)
    assert call(router) == "b"
    learn(router, B, 0.001, REFUSED)  # counts 0.5 s, and b is at 1.0 s
    assert call(router) == "b"


def test_a_look_gives_back_its_place_and_teaches_nothing(router):
    learn(router, A, 0.005)
    learn(router, B, 0.004)
    assert router.route(GetThing(), NODES) is B
    router.withdraw(B, GetThing())
    assert router.route(GetThing(), NODES) is B
    assert router.route(GetThing(), NODES) is A


def test_a_restarted_node_is_judged_anew(router):
    learn(router, A, 0.005)
    learn(router, B, 5.0)
    again = replace(B, incarnation="second")
    nodes = (A, again)
    assert router.route(GetThing(), nodes) is again
    router.completed(B, GetThing(), OK, 60.0)  # of its earlier life
    router.completed(again, GetThing(), OK, 0.001)
    assert router.route(GetThing(), nodes) is again


@pytest.mark.parametrize("took", [math.nan, -1.0, -math.inf])
def test_a_time_that_makes_no_sense_is_none(router, took):
    learn(router, A, took)
    learn(router, A, 0.005)
    learn(router, B, 0.001)
    assert call(router) == "b"


def test_a_clock_that_another_thread_read_later_does_no_harm(router, clock):
    learn(router, A, 0.005)
    clock.seconds -= 5.0
    learn(router, B, 0.006)
    learn(router, A, 0.001)
    assert [call(router) for _ in range(5)] == ["a"] * 5


def test_there_are_never_fewer_than_no_calls(router):
    learn(router, A, 0.005)
    learn(router, B, 0.006)
    for _ in range(3):
        router.completed(B, GetThing(), OK, 0.006)
    assert call(router) == "a"


def test_two_different_nodes_are_drawn_and_each_pair_by_as_many_lots():
    nodes = nodes_named(*"abcde")
    drawn = Counter()
    for one in range(5):
        for two in range(4):
            lots = Lots()
            lots.random = itertools.cycle([(one + 0.5) / 5, (two + 0.5) / 4]).__next__
            router = create_router("p2c-ewma", clock=HeldClock(), rng=lots)
            for node in nodes:
                learn(router, node, 0.005)
            first = router.route(GetThing(), nodes)
            second = router.route(GetThing(), nodes)  # the first has a call now, so the other one is better
            drawn[first.node_id, second.node_id] += 1
    assert len(drawn) == 20
    assert all(first != second for first, second in drawn)


def simulate(nodes, seconds, serve, **options):
    """Send 200 calls a second one after the other; ``serve(node_id, now)`` returns (seconds, result)."""
    clock = HeldClock()
    router = create_router("p2c-ewma", clock=clock, rng=random.Random(3), **options)
    taken = []
    for number in range(seconds * 200):
        clock.seconds = 1000.0 + number / 200
        node = router.route(GetThing(), nodes)
        took, result = serve(node.node_id, number / 200)
        router.completed(node, GetThing(), result, took)
        taken.append(node.node_id)
    return taken


def test_a_node_that_fails_fast_attracts_no_traffic():
    def serve(node_id, now):
        return (0.0001, REFUSED) if node_id == "c" else (0.005, OK)

    taken = simulate(nodes_named("a", "b", "c"), 60, serve)
    assert Counter(taken)["c"] <= 3


def test_a_node_that_recovers_is_used_again():
    def serve(node_id, now):
        return (0.0001, REFUSED) if node_id == "c" and now < 10 else (0.005, OK)

    taken = simulate(nodes_named("a", "b", "c"), 120, serve)
    assert Counter(taken[: 40 * 200])["c"] < 10
    assert Counter(taken[-20 * 200 :])["c"] > 0.15 * 20 * 200


def test_a_lower_penalty_lets_a_node_come_back_sooner():
    def serve(node_id, now):
        return (0.0001, REFUSED) if node_id == "c" and now < 1 else (0.005, OK)

    nodes = nodes_named("a", "b", "c")
    first_again = [
        simulate(nodes, 80, serve, failure_penalty=penalty)[400:].index("c") / 200 for penalty in (0.05, 1.0)
    ]
    assert first_again[0] < 30 < first_again[1]


def test_no_call_is_lost_between_threads(router):
    def work(_):
        for _ in range(200):
            call(router)

    in_threads(work)
    assert {peak.pending for peak in router._peaks.values()} == {0}


def test_a_forked_child_has_none_of_its_parents_calls(router):
    for _ in range(4):
        router.route(GetThing(), NODES)
    router.after_fork_in_child()
    assert [router.route(GetThing(), NODES).node_id for _ in range(2)] == ["a", "b"]
