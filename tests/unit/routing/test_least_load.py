"""The node that reports the lowest load."""

from dataclasses import replace

import pytest

from catga_sync import CatgaResult, ClusterNode
from catga_sync.routing import create_router
from tests.contracts.router import GetThing

OK = CatgaResult.success()


def loaded(**loads):
    return tuple(ClusterNode(name, f"http://{name}:5000", load=load) for name, load in loads.items())


@pytest.fixture
def router():
    return create_router("least-load")


def take(router, calls, nodes):
    return [router.route(GetThing(), nodes).node_id for _ in range(calls)]


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        ({"a": 50, "b": 10, "c": 80}, "b"),
        ({"a": 0.2, "b": 0.1}, "b"),
        ({"a": float("nan"), "b": 99}, "b"),
        ({"a": 1000, "b": 99}, "b"),
        ({"a": 1, "b": -5}, "b"),
    ],
)
def test_the_lowest_load_is_taken(router, loads, expected):
    assert take(router, 5, loaded(**loads)) == [expected] * 5


def test_of_equals_the_one_with_the_fewest_calls_is_taken(router):
    nodes = loaded(a=20, b=20, c=90)
    assert take(router, 2, nodes) == ["a", "b"]
    router.completed(nodes[1], GetThing(), CatgaResult.failure("no"), 0.1)
    assert take(router, 3, nodes) == ["b", "a", "b"]


def test_equals_without_calls_are_taken_in_turn(router):
    nodes = loaded(a=20, b=20)
    taken = []
    for _ in range(4):
        node = router.route(GetThing(), nodes)
        router.completed(node, GetThing(), OK, 0.1)
        taken.append(node.node_id)
    assert taken == ["a", "b", "a", "b"]


def test_a_new_report_counts_at_once(router):
    nodes = loaded(a=20, b=30)
    assert take(router, 1, nodes) == ["a"]
    assert take(router, 1, (replace(nodes[0], load=40.0), nodes[1])) == ["b"]
