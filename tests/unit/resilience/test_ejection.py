"""A node that fails its calls is left out, one that says no is avoided, and both come back when they answer."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from catga_sync.nodes import ClusterNode
from catga_sync.resilience.ejection import (
    AVOIDED,
    FIRST_OUT,
    FORGIVEN,
    IN_A_ROW,
    LONGEST_OUT,
    RATE_CALLS,
    STILL_AVOIDED,
    Ejection,
)
from tests.unit.cluster.fakes import FakeClock, ids, node

A, B, C, D = (node(name, "T") for name in "abcd")
ALL = (A, B, C, D)


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.told: list[tuple[str, bool]] = []
        self.ejection = Ejection(
            lambda node, out: self.told.append((node.node_id, out)),
            monotonic=self.clock.monotonic,
            rng=random.Random(3),
        )

    def fail(self, node: ClusterNode, times: int = IN_A_ROW) -> None:
        for _ in range(times):
            self.ejection.failed(node)

    def usable(self, nodes: tuple[ClusterNode, ...] = ALL) -> str:
        return "".join(ids(self.ejection.usable(nodes)))

    def serve_time(self, node: ClusterNode) -> float:
        """Let time pass until the node is due for a probe; return how long that took."""
        began = self.clock.now
        while node not in self.ejection.due_for_probe(ALL):
            self.clock.advance(0.25)
        return self.clock.now - began


@pytest.fixture
def world() -> World:
    return World()


def test_nothing_is_left_out_while_all_is_well(world: World) -> None:
    assert world.ejection.usable(ALL) is ALL
    world.ejection.succeeded(A)
    assert world.ejection.usable(ALL) is ALL


def test_so_many_failures_in_a_row_eject(world: World) -> None:
    world.fail(A, IN_A_ROW - 1)
    world.ejection.succeeded(A)
    world.fail(A, IN_A_ROW - 1)
    assert (world.usable(), world.told) == ("abcd", [])
    world.fail(A, 1)
    assert (world.usable(), world.told) == ("bcd", [("a", True)])
    assert world.ejection.is_ejected(A)
    assert "ejected" in (world.ejection.state(A) or "")


def test_half_of_many_calls_eject_even_if_not_in_a_row(world: World) -> None:
    for _ in range(RATE_CALLS // 2):
        world.ejection.failed(A)
        world.ejection.succeeded(A)
    world.ejection.failed(A)
    assert world.told == [("a", True)]


def test_old_failures_do_not_count(world: World) -> None:
    for _ in range(RATE_CALLS):
        world.ejection.failed(A)
        world.clock.advance(2.0)
        world.ejection.succeeded(A)
    assert world.told == []


def test_the_same_tuple_is_handed_out_while_nothing_changes(world: World) -> None:
    world.fail(A)
    assert world.ejection.usable(ALL) is world.ejection.usable(ALL)


def test_an_answered_probe_lets_it_back_and_an_unanswered_one_doubles_its_time(world: World) -> None:
    world.fail(A)
    first = world.serve_time(A)
    assert FIRST_OUT * 0.5 <= first <= FIRST_OUT * 1.5 + 0.25
    world.ejection.probed(A, responded=False)
    second = world.serve_time(A)
    assert FIRST_OUT <= second <= FIRST_OUT * 3 + 0.25
    world.ejection.probed(A, responded=True)
    assert (world.usable(), world.told) == ("abcd", [("a", True), ("a", False)])


def test_the_time_out_has_a_limit(world: World) -> None:
    world.fail(A)
    for _ in range(12):
        world.serve_time(A)
        world.ejection.probed(A, responded=False)
    assert world.serve_time(A) <= LONGEST_OUT * 1.5 + 0.25


def test_a_late_answer_does_not_let_it_back(world: World) -> None:
    world.fail(A)
    world.ejection.succeeded(A)
    assert world.usable() == "bcd"


def test_earlier_ejections_are_forgiven_after_a_while(world: World) -> None:
    world.fail(A)
    world.serve_time(A)
    world.ejection.probed(A, responded=True)
    world.clock.advance(FORGIVEN + 1)
    world.ejection.succeeded(A)
    world.fail(A)
    assert world.serve_time(A) <= FIRST_OUT * 1.5 + 0.25


def test_ejections_do_not_count_when_too_few_would_be_left(world: World) -> None:
    for each in (A, B):
        world.fail(each)
    assert world.usable() == "cd"
    world.fail(C)
    assert world.usable() == "abcd"


def test_the_only_node_is_never_left_out(world: World) -> None:
    world.fail(A)
    world.ejection.avoid(A)
    assert world.ejection.usable((A,)) == (A,)


def test_a_node_that_refused_is_avoided_for_a_moment_however_few_are_left(world: World) -> None:
    for each in (A, B, C):
        world.ejection.avoid(each)
    assert (world.usable(), world.told) == ("d", [])
    assert ids(world.ejection.due_for_check(ALL)) == ["a", "b", "c"]
    world.clock.advance(AVOIDED + 0.1)
    assert world.usable() == "abcd"


def test_a_success_ends_the_avoiding(world: World) -> None:
    world.ejection.avoid(A)
    world.ejection.succeeded(A)
    assert world.usable() == "abcd"


def test_one_that_leaves_a_look_unanswered_is_avoided_on_and_that_is_news_once(world: World) -> None:
    world.ejection.avoid(A)
    assert world.ejection.checked(A, responded=False)
    world.clock.advance(AVOIDED + 0.1)
    assert world.usable() == "bcd"
    assert world.ejection.state(A) == "it does not respond"
    assert not world.ejection.checked(A, responded=False)
    world.clock.advance(STILL_AVOIDED - 0.1)
    assert world.usable() == "bcd"
    assert not world.ejection.checked(A, responded=True)
    assert world.usable() == "abcd"
    world.ejection.avoid(A)
    assert world.ejection.checked(A, responded=False)


def test_a_look_at_a_silent_node_needs_no_earlier_blame(world: World) -> None:
    assert not world.ejection.checked(A, responded=True)
    assert world.ejection.checked(A, responded=False)
    assert world.usable() == "bcd"


def test_where_all_are_avoided_those_that_do_not_answer_come_last(world: World) -> None:
    for each in ALL:
        world.ejection.avoid(each)
    assert world.usable() == "abcd"
    world.ejection.checked(B, responded=False)
    assert world.usable() == "acd"
    for each in ALL:
        world.ejection.checked(each, responded=False)
    assert world.usable() == "abcd"


def test_one_that_answers_but_is_going_has_its_time(world: World) -> None:
    world.ejection.avoid(A)
    world.ejection.checked(A, responded=True)
    assert world.usable() == "bcd"


def test_a_restarted_node_is_judged_anew(world: World) -> None:
    world.fail(A)
    again = replace(A, incarnation="2")
    assert world.ejection.usable((again, B, C)) == (again, B, C)
    world.ejection.keep_only([again, B, C, D])
    assert not world.ejection.is_ejected(A)
    assert world.told == [("a", True), ("a", False)]


def test_nodes_that_are_gone_are_forgotten(world: World) -> None:
    world.fail(A)
    world.ejection.keep_only([B])
    assert world.usable() == "abcd"
    assert world.told == [("a", True)]
