"""Nodes of which only the address is known: what they say, and why one that says nothing does not."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from catga_sync.cluster.peer_descriptions import INTERVAL, Descriptions
from catga_sync.nodes import ClusterNode
from catga_sync.transport.http.diagnosis import Trouble
from tests.unit.cluster.fakes import FakeClock, node

ASKED = "GET http://a:1/catga/cluster/node"
REFUSED = Trouble(ASKED, "Connection refused", "nothing listens there", is_silence=True)
LOGIN = Trouble(ASKED, "HTTP status 401", "let all paths past the login")
MISSING = Trouble(ASKED, "HTTP status 404", "register the blueprint")


class World:
    """Node ``a`` of a list, and what comes of asking it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.comes: Mapping[str, Any] | Trouble | None = None
        self.descriptions = Descriptions(lambda node: self.comes, self.clock)

    def ask(self, comes: Mapping[str, Any] | Trouble | None, times: int = 1) -> bool:
        """Ask so many times, each when it is due; return whether there was news at the last."""
        self.comes = comes
        for _ in range(times):
            news = self.descriptions.ask([node("a")])
            self.clock.advance(INTERVAL)
        return news


@pytest.fixture
def world() -> World:
    return World()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("cause", [LOGIN, MISSING])
def test_what_came_back_in_place_of_a_description_is_told_once(
    world: World, cause: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    world.ask(cause, times=5)
    assert lines(caplog) == [f"node a does not describe itself: {cause}"]
    assert world.descriptions.troubles == (("a", str(cause)),)


def test_a_node_that_is_silent_is_told_when_it_still_is_at_the_next_look(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.ask(REFUSED)
    assert lines(caplog) == []
    assert world.descriptions.troubles == (("a", str(REFUSED)),)
    world.ask(REFUSED, times=5)
    assert lines(caplog) == [f"node a does not describe itself: {REFUSED}"]


def test_another_cause_is_told_as_well(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.ask(LOGIN, times=2)
    world.ask(MISSING, times=2)
    world.ask(LOGIN, times=2)
    assert [line.partition(": ")[2] for line in lines(caplog)] == [str(LOGIN), str(MISSING), str(LOGIN)]


def test_a_node_that_describes_itself_in_the_end_says_so(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world.ask(LOGIN, times=2)
    assert world.ask({"handles": ["T"]})
    assert lines(caplog)[1:] == ["node a at http://a:1 describes itself now"]
    assert world.descriptions.troubles == ()
    assert world.descriptions.of(node("a")).handles == {"T"}


def test_a_node_that_is_busy_for_a_while_is_what_it_said_and_worth_no_word(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world.ask({"handles": ["T"]})
    world.ask(REFUSED, times=5)
    assert lines(caplog) == []
    assert world.descriptions.of(node("a")).handles == {"T"}
    assert world.descriptions.troubles == (("a", str(REFUSED)),)
    world.ask({"handles": ["T"]})
    assert world.descriptions.troubles == ()


@pytest.mark.parametrize("wrong", [{"load": 500}, {"handles": "T"}, {"status": "GONE"}])
def test_a_wrong_description_is_told_once(
    world: World, wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    world.ask(wrong, times=5)
    (line,) = lines(caplog)
    assert line.startswith(f"node a does not describe itself: {ASKED}: its description is invalid (")
    assert world.descriptions.of(node("a")).handles is None


def test_nothing_is_kept_of_a_node_that_is_gone(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.ask(LOGIN)
    world.descriptions.ask([])
    assert world.descriptions.troubles == ()
    world.ask(LOGIN)
    assert len(lines(caplog)) == 2


def test_a_node_is_known_under_the_name_that_the_list_has(world: World) -> None:
    world.ask({"nodeId": "x", "endpoint": "http://x:1", "handles": ["T"]})
    assert world.descriptions.of(ClusterNode("b", "http://a:1")).node_id == "b"


def test_a_node_that_says_something_else_and_long_each_time_fills_no_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(20):
        world.ask({"status": f"{number}" + "x" * 50_000})
    assert len(lines(caplog)) == 10
    assert max(map(len, lines(caplog))) < 600
    assert max(len(text) for _, text in world.descriptions.troubles) < 600
    # What it says wrongly after it was right once is told anew.
    world.ask({"handles": ["T"]})
    world.ask({"status": "y"})
    assert "'y'" in lines(caplog)[-1]
