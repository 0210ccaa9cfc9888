"""The node with the fewest calls under way."""

from collections import Counter

import pytest

from catga_sync import CatgaResult, Delivery, ErrorCode
from catga_sync.routing import create_router
from tests.contracts.router import GetThing, Keyless, in_threads, nodes_named

NODES = nodes_named("a", "b", "c")
A, B, C = NODES
OK = CatgaResult.success()


@pytest.fixture
def router():
    return create_router("least-connections")


def take(router, calls, nodes=NODES):
    return [router.route(GetThing(), nodes).node_id for _ in range(calls)]


def test_equals_are_taken_in_turn(router):
    assert take(router, 3) == ["a", "b", "c"]
    assert take(router, 3) == ["a", "b", "c"]


def test_equals_are_taken_in_turn_when_each_call_ends_before_the_next(router):
    taken = []
    for _ in range(6):
        node = router.route(GetThing(), NODES)
        router.completed(node, GetThing(), OK, 0.1)
        taken.append(node.node_id)
    assert taken == ["a", "b", "c", "a", "b", "c"]


def test_a_node_whose_calls_take_long_gets_no_more_than_the_others_have(router):
    taken = take(router, 3)
    for _ in range(20):
        node = router.route(GetThing(), NODES)
        taken.append(node.node_id)
        if node is not B:
            router.completed(node, GetThing(), OK, 0.1)
    assert Counter(taken)["b"] == 2


@pytest.mark.parametrize(
    "result",
    [
        OK,
        CatgaResult.failure("said no", ErrorCode.NOT_FOUND),
        CatgaResult.failure("refused", ErrorCode.UNAVAILABLE, delivery=Delivery.NOT_EXECUTED),
        CatgaResult.failure("cut off", ErrorCode.UNAVAILABLE, delivery=Delivery.UNKNOWN),
        None,
    ],
    ids=["answered", "said no", "refused", "cut off", "not sent"],
)
def test_a_call_counts_until_it_ends_whatever_comes_of_it(router, result):
    assert take(router, 2, (A, B)) == ["a", "b"]
    router.completed(B, GetThing(), result, 0.1)
    assert take(router, 1, (A, B)) == ["b"]


def test_there_are_never_fewer_than_no_calls(router):
    for _ in range(5):
        router.completed(A, GetThing(), OK, 0.1)
    assert sorted(take(router, 6)) == ["a", "a", "b", "b", "c", "c"]


def test_calls_of_other_types_count_too(router):
    for _ in range(3):
        assert router.route(Keyless(), (A,)) is A
    assert sorted(take(router, 6)) == ["b", "b", "b", "c", "c", "c"]


def test_two_types_that_are_sent_alternately_both_go_to_every_node(router):
    taken = {GetThing: set(), Keyless: set()}
    for _ in range(4):
        for kind, seen in taken.items():
            node = router.route(kind(), (A, B))
            router.completed(node, kind(), OK, 0.1)
            seen.add(node.node_id)
    assert taken == {GetThing: {"a", "b"}, Keyless: {"a", "b"}}


def test_calls_are_counted_over_another_snapshot(router):
    take(router, 3, (A, B, C))
    newer = nodes_named("a", "b", "c", "d")
    assert take(router, 1, newer) == ["d"]
    router.completed(B, GetThing(), OK, 0.1)
    assert take(router, 1, newer) == ["b"]


def test_the_second_try_of_a_call_goes_to_the_next_best(router):
    assert take(router, 4) == ["a", "b", "c", "a"]
    assert take(router, 1, (A, C)) == ["c"]


def test_as_many_calls_to_as_many_nodes_are_one_each(router):
    nodes = nodes_named(*map(str, range(500)))
    assert sorted(Counter(take(router, 1000, nodes)).values()) == [2] * 500


def test_no_end_is_lost_between_threads(router):
    def work(_):
        for _ in range(300):
            router.completed(router.route(GetThing(), NODES), GetThing(), OK, 0.1)

    in_threads(work)
    assert sorted(take(router, 6)) == ["a", "a", "b", "b", "c", "c"]


def test_a_forked_child_has_none_of_its_parents_calls(router):
    take(router, 5)
    router._outstanding.after_fork_in_child()
    assert sorted(take(router, 3)) == ["a", "b", "c"]
