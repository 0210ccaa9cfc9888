"""This node if it can, else another one."""

import pytest

from catga_sync import CatgaResult, _fork
from catga_sync.routing import create_router
from tests.contracts.router import GetThing, Keyless, nodes_named


class Recording:
    """Takes the last one, and remembers what it was asked and told."""

    def __init__(self):
        self.asked, self.told = [], []

    def route(self, message, nodes):
        self.asked.append(nodes)
        return nodes[-1]

    def completed(self, node, message, result, elapsed):
        self.told.append((node.node_id, result, elapsed))


@pytest.fixture
def other():
    return Recording()


NODES = nodes_named("a", "b", "c")
A, B, C = NODES


@pytest.mark.parametrize(
    ("this", "has_room", "nodes", "expected"),
    [
        ("b", None, NODES, B),
        ("b", lambda: True, NODES, B),
        ("b", lambda: False, NODES, C),
        ("c", lambda: False, NODES, B),
        ("b", lambda: False, (B,), B),
        ("b", lambda: True, (A, C), C),
        ("b", lambda: True, (A,), A),
        ("", lambda: True, NODES, C),
    ],
    ids=[
        "it has room",
        "it says that it has room",
        "it has none",
        "it has none, and is the last",
        "it has none, but there is nobody else",
        "it is no candidate",
        "it is no candidate, and there is one",
        "it is a pure client",
    ],
)
def test_the_choice(other, this, has_room, nodes, expected):
    router = create_router("local-first", node_id=this, has_room=has_room, otherwise=other)
    assert router.route(GetThing(), nodes) is expected


def test_what_does_not_fit_here_goes_round_among_the_others():
    router = create_router("local-first", node_id="b", has_room=lambda: False)
    taken = [router.route(GetThing(), NODES) for _ in range(4)]
    assert taken in ([A, C, A, C], [C, A, C, A])


def test_room_is_asked_for_with_every_call():
    room = iter([True, False, True])
    router = create_router("local-first", node_id="a", has_room=lambda: next(room), otherwise=Recording())
    assert [router.route(GetThing(), NODES).node_id for _ in range(3)] == ["a", "c", "a"]


def test_nobody_asks_for_room_where_there_is_no_choice():
    router = create_router("local-first", node_id="a", has_room=lambda: pytest.fail("asked"))
    assert router.route(GetThing(), (A,)) is A
    assert router.route(GetThing(), (B, C)) in (B, C)


def test_the_other_router_gets_the_same_tuple_as_long_as_membership_is_the_same(other):
    router = create_router("local-first", node_id="b", has_room=lambda: False, otherwise=other)
    for _ in range(3):
        router.route(GetThing(), NODES)
    first = other.asked[0]
    assert first == (A, C)
    assert all(asked is first for asked in other.asked)
    router.route(GetThing(), (A, B))
    assert other.asked[-1] == (A,)


def test_each_type_has_candidates_of_its_own(other):
    router = create_router("local-first", node_id="b", has_room=lambda: False, otherwise=other)
    few = (A, B)
    for _ in range(2):
        router.route(GetThing(), NODES)
        router.route(Keyless(), few)
    assert other.asked == [(A, C), (A,), (A, C), (A,)]
    assert other.asked[0] is other.asked[2]
    assert other.asked[1] is other.asked[3]


def test_the_other_router_hears_of_its_own_choices_only(other):
    router = create_router("local-first", node_id="b", otherwise=other)
    result = CatgaResult.success()
    for node in NODES:
        router.completed(node, GetThing(), result, 0.5)
    assert other.told == [("a", result, 0.5), ("c", result, 0.5)]


def test_calls_that_were_spilled_over_and_failed_are_no_longer_counted():
    router = create_router("local-first", node_id="b", has_room=lambda: False, otherwise="least-connections")
    failed = CatgaResult.failure("no")
    for _ in range(10):
        first, second = (router.route(GetThing(), NODES) for _ in range(2))
        assert {first, second} == {A, C}
        router.completed(first, GetThing(), failed, 0.1)
        router.completed(second, GetThing(), failed, 0.1)


@pytest.mark.parametrize("name", ["local-first", "consistent-hash"])
def test_the_other_router_is_told_of_a_fork(name):
    other = Recording()
    other.after_fork_in_child = lambda: None
    create_router(name, otherwise=other)
    assert _fork._watched[id(other)]() is other
