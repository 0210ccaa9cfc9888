"""The same node for the same key."""

import logging
from collections import Counter
from dataclasses import dataclass, replace

import pytest

from catga_sync import CatgaResult, ClusterNode, Query, message
from catga_sync.routing import create_router, ring
from tests.contracts.router import GetThing, Keyless, in_threads, nodes_named

NODES = nodes_named(*(f"n{number}" for number in range(10)))


@message(key="key")
@dataclass(frozen=True)
class ChangeThing(Query[None]):
    key: str
    to: str = ""


@dataclass(frozen=True)
class SubThing(GetThing):
    """``@message`` speaks for the very class, so this one has no key."""


@pytest.fixture
def router():
    return create_router("consistent-hash")


@pytest.fixture
def rings_made(monkeypatch):
    made = []

    class Counted(ring.Ring):
        def __init__(self, members):
            made.append(frozenset(members))
            super().__init__(members)

    monkeypatch.setattr("catga_sync.routing.consistent_hash.Ring", Counted)
    return made


def owners(router, nodes, keys=range(200), kind=GetThing):
    return [router.route(kind(str(key)), nodes).node_id for key in keys]


def test_a_key_always_goes_to_the_same_node(router):
    assert owners(router, NODES) == owners(router, NODES)


def test_keys_are_spread_over_all_nodes(router):
    assert len(set(owners(router, NODES))) == len(NODES)


def test_two_routers_agree(router):
    assert owners(router, NODES) == owners(create_router("consistent-hash"), NODES[::-1])


def test_two_types_with_the_same_key_meet_on_the_same_node(router):
    assert owners(router, NODES) == owners(router, NODES, kind=ChangeThing)


def test_loads_and_restarts_move_nothing(router):
    changed = tuple(replace(node, load=float(at * 9), incarnation="2") for at, node in enumerate(NODES))
    assert owners(router, NODES) == owners(router, changed)


def test_a_second_try_goes_where_the_key_goes_when_that_node_is_gone(router):
    for key in range(100):
        first = router.route(GetThing(key), NODES)
        left = tuple(node for node in NODES if node is not first)
        second = router.route(GetThing(key), left)
        assert second is not first
        assert create_router("consistent-hash").route(GetThing(key), left) is second
        third = router.route(GetThing(key), tuple(node for node in left if node is not second))
        assert third not in (first, second)


def test_keys_of_other_nodes_stay_when_one_has_left(router):
    before, after = owners(router, NODES), owners(router, NODES[1:])
    assert {old for old, new in zip(before, after, strict=True) if old != new} == {"n0"}


def test_the_node_of_the_newest_snapshot_is_returned(router):
    router.route(GetThing(), NODES)
    newer = tuple(replace(node, load=50.0) for node in NODES)
    assert router.route(GetThing(), newer).load == 50.0


def test_a_heavier_node_gets_more_keys(router):
    nodes = (ClusterNode("heavy", None, metadata={"weight": 3}), *nodes_named("a", "b", "c"))
    assert Counter(owners(router, nodes, range(3000)))["heavy"] / 3000 == pytest.approx(0.5, rel=0.15)


def test_one_ring_serves_every_type_snapshot_and_second_try(router, rings_made):
    for _ in range(3):
        snapshot = tuple(replace(node, load=1.0) for node in NODES)
        for kind in (GetThing, ChangeThing):
            for nodes in (snapshot, snapshot[1:], snapshot[3:]):
                owners(router, nodes, range(5), kind)
    assert rings_made == [frozenset(node.node_id for node in NODES)]


def test_a_type_that_few_nodes_handle_has_a_ring_of_its_own(router, rings_made):
    for _ in range(3):
        owners(router, NODES, range(5))
        owners(router, NODES[:2], range(5), ChangeThing)
    assert len(rings_made) == 2


def test_a_node_that_joins_makes_another_ring(router, rings_made):
    owners(router, NODES[:9], range(5))
    owners(router, NODES, range(5))
    owners(router, NODES[:9], range(5))
    assert len(rings_made) == 2


def test_many_threads_that_miss_the_ring_make_it_once(router, rings_made):
    in_threads(lambda number: router.route(GetThing(number), tuple(NODES)))
    assert len(rings_made) == 1


@pytest.mark.parametrize(
    "request_", [Keyless(), GetThing(None), SubThing("7"), object()], ids=lambda it: type(it).__name__
)
def test_what_has_no_key_goes_round(router, request_):
    assert sorted(router.route(request_, NODES).node_id for _ in NODES) == sorted(node.node_id for node in NODES)


def test_what_has_no_key_goes_where_the_other_router_says():
    router = create_router("consistent-hash", otherwise="local-first")
    assert router.route(Keyless(), NODES) in NODES


def test_what_a_key_function_raises_is_logged_in_short(caplog):
    def key_of(message):
        raise ValueError("redis://me:hunter2@store/0 " + "x" * 900_000)

    create_router("consistent-hash", key_of=key_of).route(GetThing(), NODES)
    (line,) = caplog.messages
    assert "ValueError" in line
    assert len(line) < 600
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("key_of", "said"),
    [(lambda message: object(), "no text except its address"), (lambda message: message.nothing, "AttributeError")],
    ids=["no text", "it raises"],
)
def test_a_key_that_cannot_be_used_is_said_once_and_the_call_goes_round(key_of, said, caplog):
    router = create_router("consistent-hash", key_of=key_of)
    with caplog.at_level(logging.WARNING):
        taken = {router.route(GetThing(), NODES) for _ in NODES}
    assert taken == set(NODES)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "GetThing has no usable key" in caplog.text
    assert said in caplog.text


def test_a_function_may_say_what_the_key_is():
    router = create_router("consistent-hash", key_of=lambda message: message.number // 10)
    taken = [router.route(Keyless(number), NODES).node_id for number in range(100)]
    assert all(len(set(taken[at : at + 10])) == 1 for at in range(0, 100, 10))
    assert len(set(taken)) > 3


def test_the_other_router_hears_of_what_had_no_key_only():
    router = create_router("consistent-hash", otherwise="least-connections")
    nodes = nodes_named("a", "b")
    first, second = router.route(Keyless(), nodes), router.route(Keyless(), nodes)
    router.completed(second, GetThing(), CatgaResult.success(), 0.1)
    router.completed(first, Keyless(), CatgaResult.success(), 0.1)
    assert router.route(Keyless(), nodes) is first
