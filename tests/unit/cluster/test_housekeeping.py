"""What the background thread does about nodes that leave calls without an answer."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from catga_sync._log_limit import LimitedLog
from catga_sync.cluster.events import EventBoard, EventKind
from catga_sync.cluster.housekeeping import Housekeeping
from catga_sync.cluster.membership import Membership
from catga_sync.mediator import Mediator
from catga_sync.nodes import ClusterNode
from catga_sync.receiver.authentication import OpenGuard
from catga_sync.receiver.receiver import RawRequest, Receiver
from catga_sync.resilience.ejection import IN_A_ROW, Ejection
from tests.unit.cluster.fakes import FakeClock, FakeStore, ids, node, record
from tests.unit.serving_node import local_node

A, B = node("a", "T"), node("b", "T")


class Sender:
    """Says which nodes leave calls without a response, and notes what it is told."""

    def __init__(self) -> None:
        self.quiet: list[ClusterNode] = []
        self.tidied: list[list[str]] = []
        self.abandoned: list[str] = []

    def close(self) -> None:
        pass

    def tidy(self, nodes: Iterable[ClusterNode]) -> None:
        self.tidied.append(ids(nodes))

    def silent(self, nodes: Iterable[ClusterNode], seconds: float) -> list[ClusterNode]:
        return [each for each in nodes if each in self.quiet]

    def abandon(self, node: ClusterNode) -> None:
        self.abandoned.append(node.node_id)


class World:
    def __init__(self, *names: str) -> None:
        names = names or ("a", "b")
        self.clock = FakeClock()
        self.sender = Sender()
        self.alive = dict.fromkeys(names, True)
        self.asked: list[str] = []
        self.events = EventBoard()
        self.ejection = Ejection(self.events.tell_ejected, monotonic=self.clock.monotonic)
        membership = Membership(
            FakeStore(*(record(name, "T") for name in names)),
            ClusterNode("me", None),
            self.events,
            self,
            suspect_after=15.0,
            keep_missing=30.0,
            clock=self.clock,
        )
        sender: Any = self.sender
        self.limited_log = LimitedLog(self.clock)
        self.housekeeping = Housekeeping(
            membership, None, self.ejection, local_node("me"), sender, self, (), self.limited_log
        )

    def describe(self, node: ClusterNode) -> None:
        """Nothing is known of it."""

    def is_gone(self, node: ClusterNode) -> bool:
        return False

    def is_alive(self, node: ClusterNode) -> bool:
        self.asked.append(node.node_id)
        return self.alive[node.node_id]


@pytest.fixture
def world() -> World:
    return World()


def test_the_invoker_is_told_who_is_there(world: World) -> None:
    world.housekeeping.step()
    assert world.sender.tidied == [["a", "b"]]
    assert world.asked == []


def test_a_node_whose_calls_take_long_is_asked_and_goes_on_if_it_answers(world: World) -> None:
    world.sender.quiet = [A]
    world.housekeeping.step()
    assert world.asked == ["a"]
    assert world.ejection.usable((A, B)) == (A, B)
    assert world.sender.abandoned == []


def test_one_that_does_not_answer_is_avoided_and_those_who_wait_there_are_let_go_once(world: World) -> None:
    world.sender.quiet = [A]
    world.alive["a"] = False
    for _ in range(3):
        world.housekeeping.step()
    assert world.ejection.usable((A, B)) == (B,)
    assert world.sender.abandoned == ["a"]
    # Avoided, not faulted: a node with a single thread may just be busy.
    assert EventKind.NODE_FAULTED not in {event.kind for event in world.events.past()}
    world.alive["a"] = True
    world.housekeeping.step()
    assert world.ejection.usable((A, B)) == (A, B)


def test_an_ejection_is_told_and_lets_nobody_go_who_waits(world: World) -> None:
    # Its calls may just take long, and it may be the only node: only a look can tell that it hangs.
    for _ in range(IN_A_ROW):
        world.ejection.failed(A)
    assert world.sender.abandoned == []
    assert [event.kind for event in world.events.past()] == [EventKind.NODE_FAULTED]


def test_all_who_hang_are_asked_in_turn_however_many_they_are() -> None:
    names = [f"n{number:02}" for number in range(20)]
    world = World(*names)
    world.sender.quiet = [node(name, "T") for name in names]
    world.alive = dict.fromkeys(names, False)
    for _ in range(3):
        world.housekeeping.step()
    assert sorted(world.sender.abandoned) == names
    assert max(Counter(world.asked).values()) <= 2


def test_a_step_asks_several_at_once(world: World) -> None:
    both = threading.Barrier(2, timeout=20)

    def ask(node: ClusterNode) -> bool:
        both.wait()
        return True

    world.sender.quiet = [A, B]
    world.is_alive = ask  # type: ignore[method-assign]
    world.housekeeping.step()
    assert world.sender.abandoned == []


def test_how_many_refusals_were_left_out_of_the_log_is_told_though_no_further_one_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    receiver = Receiver(Mediator(), local_node("me"), guard=OpenGuard(), limited_log=world.limited_log)
    for _ in range(12):
        receiver.handle(RawRequest("GET", "/catga/x", {}, lambda size: b"", 0))
    world.clock.advance(1.0)
    world.housekeeping.step()
    assert [message for message in caplog.messages if "left out" in message] == [
        "left out of this log: 2 x refused: status=404 code=UNIMPLEMENTED"
    ]
