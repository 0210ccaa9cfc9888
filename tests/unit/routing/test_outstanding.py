"""The table behind least connections and least load."""

import pytest

from catga_sync.routing.outstanding import Outstanding
from tests.contracts.router import GetThing, nodes_named


@pytest.fixture
def outstanding():
    return Outstanding()


def test_a_node_without_a_call_is_not_in_the_table(outstanding):
    nodes = nodes_named("a", "b")
    for _ in range(4):
        outstanding.take(GetThing, nodes)
    assert {name: outstanding.count(name) for name in "abc"} == {"a": 2, "b": 2, "c": 0}
    for name in "aabbbc":
        outstanding.end(name)
    assert len(outstanding) == 0


def test_who_has_left_goes_out_of_the_table_though_its_calls_never_end(outstanding):
    for generation in range(100):
        for node in nodes_named(*(f"{generation}-{number}" for number in range(10))):
            outstanding.take(GetThing, (node,))
    assert len(outstanding) < 70


def test_who_is_there_stays_in_it_however_many_have_left(outstanding):
    here = nodes_named("a", "b", "c")
    for _ in range(6):
        outstanding.take(GetThing, here)
    for generation in range(100):
        outstanding.take(object, nodes_named(f"other-{generation}"))
    assert [outstanding.count(node.node_id) for node in here] == [2, 2, 2]
