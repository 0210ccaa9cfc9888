"""Whatever a router, an invoker, a store or a load reporter of the application raises, a call gives a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from catga_sync import Delivery, ErrorCode, Mediator, Query, create_cluster
from catga_sync.cluster.events import ClusterEvent, EventBoard
from catga_sync.nodes import ClusterNode


@dataclass(frozen=True)
class Ask(Query[int]):
    pass


@dataclass(frozen=True)
class Unhandled(Query[int]):
    pass


class Custom(BaseException):
    pass


class Imitation:
    """Claims to be of a class, and raises when asked of which."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise Custom("hunter2")


def answer(request: Ask) -> int:
    return 7


class Exiting:
    """A router, a load reporter and a listener whose every method exits."""

    def __init__(self, *broken: str) -> None:
        self.broken = broken

    def route(self, message: Any, nodes: Any) -> Any:
        if "route" in self.broken:
            raise SystemExit
        return Imitation() if "answer" in self.broken else nodes[0]

    @property
    def completed(self) -> Callable[..., None]:
        if "completed" in self.broken:
            raise Custom
        return self.forget_it

    def forget_it(self, *_: Any) -> None:
        raise SystemExit

    def __call__(self, *_: Any) -> float:
        raise SystemExit


@pytest.mark.parametrize("broken", ["route", "answer"])
def test_a_router_that_raises_anything_is_a_failure_that_was_not_executed(broken: str) -> None:
    local = Mediator()
    local.register(Ask, answer)
    with create_cluster(local, node_id="n", discovery="memory://", router=Exiting(broken)) as node:
        for result in (node.send(Ask()), *node.send_batch([Ask(), Ask()])):
            assert (result.code, result.delivery) == (ErrorCode.INTERNAL, Delivery.NOT_EXECUTED)
            assert str(result.error).startswith("router: ")
        assert node.explain(Ask()).chosen is None


@pytest.mark.parametrize("broken", ["completed", ""])
def test_what_a_router_does_with_the_result_does_not_change_it(broken: str) -> None:
    local = Mediator()
    local.register(Ask, answer)
    with create_cluster(local, node_id="n", discovery="memory://", router=Exiting(broken)) as node:
        assert [result.value for result in (node.send(Ask()), *node.send_batch([Ask()]))] == [7, 7]


def test_a_load_reporter_that_raises_anything_makes_the_node_a_loaded_one() -> None:
    with create_cluster(Mediator(), node_id="n", discovery="memory://", load_reporter=Exiting()) as node:
        assert node.node.load == 100.0


class InvokerOfTheUser:
    def invoke(self, node: Any, request: Any, *, timeout: float, call: Any) -> Any:
        raise SystemExit("hunter2")

    def invoke_batch(self, node: Any, requests: Any, *, timeout: float, calls: Any) -> Any:
        raise Custom("hunter2")

    def close(self) -> None:
        pass


class StoreOfTheUser:
    refresh_interval = 0.1

    def register(self, record: Any, ttl: float) -> None:
        raise Custom("hunter2")

    deregister = register

    def nodes(self) -> Any:
        raise SystemExit("hunter2")

    def close(self) -> None:
        pass


def test_an_invoker_that_raises_anything_may_have_sent_the_request() -> None:
    with create_cluster(
        Mediator(), node_id="n", discovery="static", peers={"a": "http://127.0.0.1:1"}, invoker=InvokerOfTheUser()
    ) as client:
        for result in (client.send(Ask()), *client.send_batch([Ask(), Ask()])):
            assert (result.code, result.delivery) == (ErrorCode.INTERNAL, Delivery.UNKNOWN)


def test_a_store_that_raises_anything_is_a_store_that_is_down() -> None:
    local = Mediator()
    local.register(Ask, answer)
    with create_cluster(local, node_id="n", discovery=StoreOfTheUser()) as node:
        assert node.send(Ask()).value == 7
        assert not node.send(Unhandled())


def test_a_listener_that_raises_anything_keeps_no_other_from_being_told() -> None:
    told: list[ClusterEvent] = []
    board = EventBoard()
    board.listen(Exiting())
    board.listen(told.append)
    event = ClusterEvent(ClusterEvent.NODE_JOINED, ClusterNode("a", None))
    board.tell(event)
    assert told == [event]
