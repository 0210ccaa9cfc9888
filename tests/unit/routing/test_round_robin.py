"""Each node in turn."""

from collections import Counter

from catga_sync.routing import create_router
from tests.contracts.router import GetThing, Keyless, in_threads, nodes_named
from tests.tables import every_row


@every_row("size", [1, 2, 3, 7])
def test_in_as_many_calls_as_there_are_nodes_each_is_taken_once(size):
    router = create_router("round-robin")
    nodes = nodes_named(*"abcdefg"[:size])
    taken = [router.route(GetThing(), nodes) for _ in range(3 * size)]
    assert taken[:size] == taken[size : 2 * size] == taken[2 * size :]
    assert set(taken) == set(nodes)


def test_two_types_that_are_sent_alternately_both_go_to_every_node():
    router = create_router("round-robin")
    nodes = nodes_named("a", "b")
    taken = [(router.route(GetThing(), nodes), router.route(Keyless(), nodes)) for _ in range(2)]
    assert {things for things, _ in taken} == {others for _, others in taken} == set(nodes)


def test_calls_of_several_threads_are_spread_without_a_remainder():
    router = create_router("round-robin")
    nodes = nodes_named("a", "b", "c", "d", "e")
    taken = []
    in_threads(lambda _: [taken.append(router.route(GetThing(), nodes).node_id) for _ in range(250)])
    assert Counter(taken) == dict.fromkeys("abcde", 400)
