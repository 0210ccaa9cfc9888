"""What the background thread does about nodes that leave calls without an answer."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

import pytest

from catga_sync.cluster.events import EventBoard, EventKind
from catga_sync.cluster.housekeeping import Upkeep
from catga_sync.cluster.membership import Membership
from catga_sync.mediator import Mediator
from catga_sync.nodes import ClusterNode
from catga_sync.receiver.authentication import OpenGuard
from catga_sync.receiver.receiver import RawRequest, Receiver
from catga_sync.resilience.budget import RetryBudget
from catga_sync.resilience.ejection import IN_A_ROW, Ejection
from catga_sync.results import CatgaResult
from tests.unit.cluster.fakes import FakeClock, FakeStore, ids, node, record

A, B = node("a", "T"), node("b", "T")


class Invoker:
    """Says which nodes leave calls without an answer, and notes what it is told."""

    def __init__(self) -> None:
        self.quiet: list[ClusterNode] = []
        self.tidied: list[list[str]] = []
        self.released: list[str] = []

    def invoke(self, node: ClusterNode, request: object, *, timeout: float, request_id: str) -> CatgaResult[object]:
        raise AssertionError("nothing is sent here")

    def close(self) -> None:
        pass

    def tidy(self, nodes: Iterable[ClusterNode]) -> None:
        self.tidied.append(ids(nodes))

    def silent(self, nodes: Iterable[ClusterNode], seconds: float) -> list[ClusterNode]:
        return [each for each in nodes if each in self.quiet]

    def release(self, node: ClusterNode) -> None:
        self.released.append(node.node_id)


class World:
    def __init__(self, *names: str) -> None:
        names = names or ("a", "b")
        self.clock = FakeClock()
        self.invoker = Invoker()
        self.alive = dict.fromkeys(names, True)
        self.asked: list[str] = []
        self.events = EventBoard()
        self.ejection = Ejection(self.tell_ejected, monotonic=self.clock.monotonic)
        membership = Membership(
            FakeStore(*(record(name, "T") for name in names)),
            ClusterNode("me", None),
            self.events,
            suspect_after=15.0,
            keep_missing=30.0,
            describe=lambda node: None,
            is_gone=lambda node: False,
            clock=self.clock,
        )
        self.receiver = Receiver(Mediator(), node_id="me", describe=dict, guard=OpenGuard(), clock=self.clock)
        self.upkeep = Upkeep(
            membership,
            None,
            self.ejection,
            RetryBudget(monotonic=self.clock.monotonic),
            self.events,
            receiver=self.receiver,
            invoker=self.invoker,
            is_alive=self.ask,
            close_discovery=lambda: None,
            forget_discovery=lambda: None,
        )

    def tell_ejected(self, node: ClusterNode, ejected: bool) -> None:
        self.upkeep.tell_ejected(node, ejected)

    def ask(self, node: ClusterNode) -> bool:
        self.asked.append(node.node_id)
        return self.alive[node.node_id]


@pytest.fixture
def world() -> World:
    return World()


def test_the_invoker_is_told_who_is_there(world: World) -> None:
    world.upkeep.step()
    assert world.invoker.tidied == [["a", "b"]]
    assert world.asked == []


def test_a_node_whose_calls_take_long_is_asked_and_goes_on_if_it_answers(world: World) -> None:
    world.invoker.quiet = [A]
    world.upkeep.step()
    assert world.asked == ["a"]
    assert world.ejection.usable((A, B)) == (A, B)
    assert world.invoker.released == []


def test_one_that_does_not_answer_is_avoided_and_those_who_wait_there_are_let_go_once(world: World) -> None:
    world.invoker.quiet = [A]
    world.alive["a"] = False
    for _ in range(3):
        world.upkeep.step()
    assert world.ejection.usable((A, B)) == (B,)
    assert world.invoker.released == ["a"]
    # Avoided, not faulted: a node with a single thread may just be busy.
    assert EventKind.NODE_FAULTED not in {event.kind for event in world.events.past()}
    world.alive["a"] = True
    world.upkeep.step()
    assert world.ejection.usable((A, B)) == (A, B)


def test_an_ejection_is_told_and_lets_nobody_go_who_waits(world: World) -> None:
    # Its calls may just take long, and it may be the only node: only a look can tell that it hangs.
    for _ in range(IN_A_ROW):
        world.ejection.failed(A)
    assert world.invoker.released == []
    assert [event.kind for event in world.events.past()] == [EventKind.NODE_FAULTED]


def test_all_who_hang_are_asked_in_turn_however_many_they_are() -> None:
    names = [f"n{number:02}" for number in range(20)]
    world = World(*names)
    world.invoker.quiet = [node(name, "T") for name in names]
    world.alive = dict.fromkeys(names, False)
    for _ in range(3):
        world.upkeep.step()
    assert sorted(world.invoker.released) == names
    assert max(Counter(world.asked).values()) <= 2


def test_a_step_asks_several_at_once(world: World) -> None:
    both = threading.Barrier(2, timeout=20)

    def ask(node: ClusterNode) -> bool:
        both.wait()
        return True

    world.invoker.quiet = [A, B]
    world.upkeep._is_alive = ask
    world.upkeep.step()
    assert world.invoker.released == []


def test_how_many_refusals_were_left_out_of_the_log_is_told_though_no_further_one_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    for _ in range(12):
        world.receiver.handle(RawRequest("GET", "/catga/x", {}, lambda size: b"", 0))
    world.clock.advance(1.0)
    world.upkeep.step()
    assert [message for message in caplog.messages if "left out" in message] == [
        "left out of this log: 2 x refused: status=404 code=UNIMPLEMENTED"
    ]
