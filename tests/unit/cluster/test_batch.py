"""Requests that travel together: one round trip a node, and for each item what a call alone would get."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from catga_sync import (
    CatgaResult,
    ClusterMediator,
    Delivery,
    ErrorCode,
    Mediator,
    Query,
    Request,
    create_cluster,
    message,
)
from catga_sync.context import CallContext, enter_call, leave_call
from catga_sync.deadline import Deadline
from catga_sync.nodes import ClusterNode
from tests.unit.cluster.fakes import FakeInvoker, FakeStore, record

RUN, NOT_RUN, MAYBE = Delivery.EXECUTED, Delivery.NOT_EXECUTED, Delivery.UNKNOWN


@message(name="Do")
@dataclass(frozen=True)
class Do(Request[int]):
    number: int = 0


@message(name="Ask")
@dataclass(frozen=True)
class Ask(Query[int]):
    number: int = 0


@message(name="Lost", route="no-such-router")
@dataclass(frozen=True)
class Lost(Query[int]):
    number: int = 0


def failed(code: ErrorCode = ErrorCode.UNAVAILABLE, delivery: Delivery = NOT_RUN) -> CatgaResult[Any]:
    return CatgaResult.failure("no", code, delivery=delivery)


class Invoker(FakeInvoker):
    """Takes batches too; ``answers`` are for whole batches: a function of the requests, or one answer for each."""

    def __init__(self, **answers: Any) -> None:
        super().__init__(**answers)
        self.batches: list[tuple[str, list[Any]]] = []
        self.batch_ids: list[str] = []

    def invoke_batch(
        self, node: ClusterNode, requests: Sequence[Any], *, timeout: float, calls: Sequence[CallContext]
    ) -> list[CatgaResult[Any]]:
        self.batches.append((node.node_id, list(requests)))
        self.batch_ids += [call.request_id for call in calls]
        answer = self.answers[node.node_id]
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Exception):
            raise answer
        answers = [answer(each) if callable(answer) else answer for each in requests]
        return [each if isinstance(each, CatgaResult) else CatgaResult.success(each) for each in answers]


class Watching:
    """Takes the first node, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any, bool, Delivery]] = []

    def route(self, message: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        return nodes[0]

    def completed(self, node: ClusterNode, message: Any, result: CatgaResult[Any], elapsed: float) -> None:
        self.told.append((node.node_id, message, result.is_success, result.delivery))


Make = Callable[..., ClusterMediator]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[ClusterMediator] = []

    def make(invoker: Any, *nodes: str, **options: Any) -> ClusterMediator:
        records = [record(name, "Do", "Ask", "Lost", features={"batch"}) for name in nodes or ("a", "b")]
        given = {"node_id": "me", "retry_delay": 0.0, "router": Watching(), **options}
        made.append(create_cluster(Mediator(), discovery=FakeStore(*records), invoker=invoker, **given))
        return made[-1]

    yield make
    for mediator in made:
        mediator.close()


def test_all_items_for_a_node_are_one_round_trip_under_ids_of_their_own(make: Make) -> None:
    invoker = Invoker(a=lambda request: request.number)
    results = make(invoker).send_batch([Do(1), Ask(2), Do(3)])
    assert [result.value for result in results] == [1, 2, 3]
    assert invoker.batches == [("a", [Do(1), Ask(2), Do(3)])]
    assert [result.request_id for result in results] == invoker.batch_ids
    assert len(set(invoker.batch_ids)) == 3


def test_every_item_has_its_attempts_and_its_router_hears_of_each(make: Make) -> None:
    router = Watching()
    no = failed("shop.closed", RUN)
    results = make(Invoker(a=lambda request: no if request.number else 7), router=router).send_batch([Do(0), Do(1)])
    assert [[(each.node_id, each.delivery, each.code) for each in result.attempts] for result in results] == [
        [("a", RUN, None)],
        [("a", RUN, "shop.closed")],
    ]
    assert router.told == [("a", Do(0), True, RUN), ("a", Do(1), False, RUN)]


def test_what_did_not_run_travels_together_to_the_next_node(make: Make) -> None:
    invoker = Invoker(
        a=lambda request: failed() if request.number % 2 else request.number, b=lambda request: -request.number
    )
    results = make(invoker).send_batch([Do(n) for n in range(4)])
    assert [result.value for result in results] == [0, -1, 2, -3]
    assert invoker.batches == [("a", [Do(n) for n in range(4)]), ("b", [Do(1), Do(3)])]
    assert [each.node_id for each in results[1].attempts] == ["a", "b"]


def test_what_may_have_run_is_sent_again_only_when_it_may_run_twice(make: Make) -> None:
    invoker = Invoker(a=failed(delivery=MAYBE), b=7)
    results = make(invoker).send_batch([Do(1), Ask(2)])
    assert [(result.is_success, result.delivery) for result in results] == [(False, MAYBE), (True, RUN)]
    assert invoker.batches[1:] == [("b", [Ask(2)])]


def test_a_later_try_that_did_not_run_takes_nothing_back(make: Make) -> None:
    invoker = Invoker(a=failed(delivery=MAYBE), b=failed(ErrorCode.RESOURCE_EXHAUSTED), c=failed())
    (result,) = make(invoker, "a", "b", "c").send_batch([Ask(1)])
    assert result.delivery is MAYBE
    assert [each.delivery for each in result.attempts] == [MAYBE, NOT_RUN, NOT_RUN]


@pytest.mark.parametrize("options", [{"enable_failover": False}, {"max_retries": 0}])
@pytest.mark.parametrize("delivery", [MAYBE, NOT_RUN])
def test_without_failover_the_first_try_is_the_only_one(make: Make, options: Any, delivery: Delivery) -> None:
    invoker = Invoker(a=failed(delivery=delivery))
    (result,) = make(invoker, **options).send_batch([Ask(1)])
    assert result == failed(delivery=delivery)
    assert len(invoker.batches) == 1


def test_a_thousand_items_that_a_dead_node_had_are_all_sent_elsewhere(make: Make) -> None:
    invoker = Invoker(a=failed(), b=lambda request: request.number)
    results = make(invoker).send_batch([Do(n) for n in range(1000)])
    assert [result.value for result in results] == list(range(1000))
    assert len(invoker.batches) == 2


def test_a_batch_that_fails_speaks_once_against_its_node(make: Make) -> None:
    invoker = Invoker(a=failed(delivery=MAYBE), b=7)
    mediator = make(invoker)
    mediator.send_batch([Ask(n) for n in range(100)])
    assert {node.node_id: node.status.name for node in mediator.nodes()} == {"a": "ONLINE", "b": "ONLINE"}
    for _ in range(4):
        mediator.send_batch([Ask(1)])
    assert {node.node_id: node.status.name for node in mediator.nodes()} == {"a": "FAULTED", "b": "ONLINE"}


@pytest.mark.parametrize("answer", [ValueError("oops"), None, "a", ClusterNode("stranger", None)], ids=repr)
def test_a_router_that_fails_costs_its_items_only(make: Make, answer: Any) -> None:
    class Broken(Watching):
        def route(self, message: Any, nodes: tuple[ClusterNode, ...]) -> Any:
            if message.number != 13:
                return nodes[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

    results = make(Invoker(a=7), router=Broken()).send_batch([Do(1), Do(13), Do(2)])
    assert [result.is_success for result in results] == [True, False, True]
    assert (results[1].code, results[1].delivery) == (ErrorCode.INTERNAL, NOT_RUN)
    assert "router" in (results[1].error or "")


def test_a_type_with_a_wrong_route_costs_its_items_only(make: Make) -> None:
    results = make(Invoker(a=7)).send_batch([Do(1), Lost(1), Do(2), Lost(2)])
    assert [good.value for good in results[::2]] == [7, 7]
    assert [(bad.code, bad.delivery) for bad in results[1::2]] == [(ErrorCode.INTERNAL, NOT_RUN)] * 2
    assert len({each.request_id for each in results}) == 4


@pytest.mark.parametrize(
    "answer", [ValueError("oops"), [[]], [[CatgaResult.success(1)]]], ids=["raises", "none", "few"]
)
def test_an_invoker_that_fails_leaves_every_item_unsure(make: Make, answer: Any) -> None:
    class Broken(Invoker):
        def invoke_batch(self, *given: Any, **options: Any) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer[0]

    results = make(Broken(), "a").send_batch([Do(1), Do(2)])
    assert [(result.code, result.delivery) for result in results] == [(ErrorCode.INTERNAL, MAYBE)] * 2


def test_a_handler_that_serves_another_node_sends_one_batch_too(make: Make) -> None:
    invoker = Invoker(a=7, b=8)
    mediator = make(invoker)
    call = CallContext("r", Deadline.after(10), chain=(("a", 0), ("far", 3)), source_node_id="far")
    token = enter_call(call)
    try:
        results = mediator.send_batch([Do(1), Do(2)])
    finally:
        leave_call(token)
    # Node a waits for this very call, and has no thread left.
    assert invoker.batches == [("b", [Do(1), Do(2)])]
    assert all(results)


def test_what_runs_here_does_not_wait_for_another_node(make: Make) -> None:
    here = threading.Event()

    class Hanging(Invoker):
        def invoke_batch(self, node: ClusterNode, requests: Sequence[Any], **options: Any) -> list[CatgaResult[Any]]:
            assert here.wait(20), "the round trip is over before what runs here has begun"
            return super().invoke_batch(node, requests, **options)

    @message(name="Here", remote=False)
    @dataclass(frozen=True)
    class Here(Request[int]):
        pass

    def handle(request: Here) -> int:
        here.set()
        return 1

    mediator = make(Hanging(a=7), "a")
    mediator.register(Here, handle)
    assert [result.value for result in mediator.send_batch([Do(1), Here()])] == [7, 1]


def test_where_the_system_gives_no_thread_the_caller_s_own_does(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    mediator = make(Invoker(a=7, b=8), router="round-robin")
    mediator.nodes()

    def refuse(*given: Any) -> Any:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("catga_sync.cluster.batch.ThreadPoolExecutor.submit", refuse)
    assert sorted(result.value or 0 for result in mediator.send_batch([Do(1), Do(2)])) == [7, 8]


def test_what_runs_here_runs_in_the_callers_thread(make: Make) -> None:
    mediator = make(Invoker(a=7, b=8))
    threads: set[threading.Thread] = set()

    @message(name="Here", remote=False)
    @dataclass(frozen=True)
    class Here(Request[int]):
        pass

    def handle(request: Here) -> int:
        threads.add(threading.current_thread())
        return 1

    mediator.register(Here, handle)
    assert [result.value for result in mediator.send_batch([Here(), Do(1), Here()])] == [1, 7, 1]
    assert threads == {threading.current_thread()}
