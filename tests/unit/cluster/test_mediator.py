"""The cluster mediator over a store and an invoker that do as they are told. No socket is opened."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from catga_sync.cluster.factory import create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.context import current_call
from catga_sync.errors import BusinessError, Delivery, ErrorCode, RegistrationError
from catga_sync.mediator import Mediator
from catga_sync.messages import Event, Query, Request, message
from catga_sync.nodes import NodeRecord, NodeStatus
from catga_sync.results import CatgaResult
from tests.processes import until
from tests.unit.cluster.fakes import FakeInvoker, FakeStore, ids, node, record


@message(name="Ask")
@dataclass(frozen=True)
class Ask(Query[int]):
    number: int = 0


@message(name="Do")
@dataclass(frozen=True)
class Do(Request[int]):
    number: int = 0


@message(name="Here", remote=False)
@dataclass(frozen=True)
class Here(Query[str]):
    pass


@message(name="Lost", route="no-such-router")
@dataclass(frozen=True)
class Lost(Query[int]):
    pass


@message(name="Round", route="round-robin")
@dataclass(frozen=True)
class Round(Query[int]):
    pass


@message(name="Happened")
@dataclass(frozen=True)
class Happened(Event):
    pass


@message(name="Private", remote=False)
@dataclass(frozen=True)
class Private(Event):
    pass


class Undataclassed(Query[int]):
    pass


Make = Callable[..., ClusterMediator]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[ClusterMediator] = []

    def make(*records: Any, store: FakeStore | None = None, **options: Any) -> ClusterMediator:
        given = {"node_id": "me", "invoker": FakeInvoker(a=1, b=2, c=3), "retry_delay": 0.0, **options}
        made.append(create_cluster(Mediator(), discovery=FakeStore(*records) if store is None else store, **given))
        return made[-1]

    yield make
    for mediator in made:
        mediator.close()


def invoker_of(mediator: ClusterMediator) -> FakeInvoker:
    return mediator._sender._invoker  # type: ignore[return-value]


def failed(code: ErrorCode = ErrorCode.UNAVAILABLE, delivery: Delivery = Delivery.NOT_EXECUTED) -> CatgaResult[Any]:
    return CatgaResult.failure("no", code, delivery=delivery)


def threads_of(name: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == f"catga-cluster-{name}"]


# -- where a request goes ----------------------------------------------------------------------------------------------


def test_a_request_goes_to_the_node_that_has_the_handler(make: Make) -> None:
    mediator = make(record("a", "Other"), record("b", "Ask"))
    result = mediator.send(Ask(5))
    assert (result.value, result.node_id) == (2, "b")
    assert invoker_of(mediator).calls == [("b", Ask(5))]
    assert [attempt.node_id for attempt in result.attempts] == ["b"]
    assert invoker_of(mediator).ids == [result.request_id]


def test_what_this_node_handles_it_handles_itself(make: Make) -> None:
    mediator = make(record("a", "Ask"))
    threads = []
    mediator.register(Ask, lambda request: threads.append(threading.current_thread()) or request.number)
    result = mediator.send(Ask(5))
    assert (result.value, result.node_id) == (5, "me")
    assert invoker_of(mediator).calls == []
    assert threads == [threading.current_thread()]


def test_a_type_may_ask_for_another_router(make: Make) -> None:
    mediator = make(record("a", "Round"), record("b", "Round"))
    assert {mediator.send(Round()).node_id for _ in range(4)} == {"a", "b"}


def test_a_route_that_does_not_exist_is_a_failed_result_at_the_latest(make: Make) -> None:
    result = make(record("a", "Lost")).send(Lost())
    assert (result.is_success, result.delivery) == (False, Delivery.NOT_EXECUTED)


@pytest.mark.parametrize("argument", [None, "Ask", Ask, Happened()])
def test_an_argument_that_is_no_request_is_a_type_error(make: Make, argument: Any) -> None:
    mediator = make(record("a", "Ask"))
    for call in (mediator.send, mediator.broadcast, mediator.explain, lambda it: mediator.send_batch([it])):
        with pytest.raises(TypeError, match=r"^request: "):
            call(argument)
    assert invoker_of(mediator).calls == []


def test_a_class_that_cannot_be_registered_is_a_mistake_of_the_caller(make: Make) -> None:
    with pytest.raises(RegistrationError, match="Undataclassed"):
        make(record("a", "Ask")).send(Undataclassed())


def test_a_class_that_cannot_be_registered_is_a_mistake_of_the_caller_with_behaviours_too(make: Make) -> None:
    mediator = make(record("a", "Ask"))
    mediator.add_behavior(lambda next_: next_)
    with pytest.raises(RegistrationError, match="Undataclassed"):
        mediator.send(Undataclassed())


def test_an_invoker_that_raises_leaves_it_open_whether_the_handler_ran(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    mediator = make(record("a", "Do"), invoker=FakeInvoker(a=ValueError("hunter2")))
    result = mediator.send(Do())
    assert (result.code, result.delivery) == (ErrorCode.INTERNAL, Delivery.UNKNOWN)
    assert "hunter2" not in repr(result)
    assert "hunter2" in caplog.text


# -- when nobody has it ------------------------------------------------------------------------------------------------


def test_alone_in_the_cluster_says_what_to_start(make: Make) -> None:
    result = make().send(Ask())
    assert (result.code, result.delivery) == (ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)
    assert "Ask" in result.error
    assert "cluster_name" in result.error
    assert len(result.request_id) == 32


def test_among_nodes_that_have_it_not_says_who_they_are(make: Make) -> None:
    result = make(record("a", "Other"), record("b", "Other")).send(Ask())
    assert (result.code, result.delivery) == (ErrorCode.UNIMPLEMENTED, Delivery.NOT_EXECUTED)
    assert "@mediator.handler" in result.error
    assert "a, b" in result.error


def test_a_node_that_has_just_come_up_is_found_before_that_is_said(make: Make) -> None:
    store = FakeStore(record("a", "Other"))
    mediator = make(store=store)
    assert not mediator.send(Ask())
    store.records.append(record("b", "Ask"))
    assert until(lambda: mediator.send(Ask()).node_id, "the new node is found") == "b"


def test_only_draining_nodes_have_it(make: Make) -> None:
    result = make(record("a", "Ask", status=NodeStatus.DRAINING)).send(Ask())
    assert (result.code, result.delivery) == (ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)
    assert "going offline" in result.error


# -- local-only types --------------------------------------------------------------------------------------------------


def unknown(name: str) -> NodeRecord:
    """Return the record of a node that has not said what it handles, and so may handle anything."""
    return record(name)


def test_a_local_type_is_sent_to_nobody(make: Make) -> None:
    mediator = make(unknown("a"))
    result = mediator.send(Here())
    assert (result.code, result.delivery) == (ErrorCode.UNIMPLEMENTED, Delivery.NOT_EXECUTED)
    mediator.register(Here, lambda request: "here")
    assert mediator.send(Here()).value == "here"
    assert mediator.send_batch([Here(), Here()]) == [CatgaResult.success("here")] * 2
    assert invoker_of(mediator).calls == []


def test_a_local_type_is_broadcast_to_nobody(make: Make) -> None:
    mediator = make(unknown("a"))
    mediator.register(Here, lambda request: "here")
    assert mediator.broadcast(Here()) == {"me": CatgaResult.success("here")}
    assert invoker_of(mediator).calls == []


def test_a_local_event_is_told_to_nobody_else(make: Make) -> None:
    mediator = make(record("a", "Ask", subscribes={"Private"}))
    mediator.subscribe(Private, lambda event: None)
    assert mediator.publish(Private()) == {"me": CatgaResult.success(None)}
    assert invoker_of(mediator).calls == []


def test_a_local_type_is_not_what_this_node_tells_of_itself(make: Make) -> None:
    mediator = make()
    mediator.register(Here, lambda request: "here")
    mediator.register(Ask, lambda request: 1)
    mediator.subscribe(Private, print)
    mediator.subscribe(Happened, print)
    assert (mediator.node.handles, mediator.node.subscribes) == ({"Ask"}, {"Happened"})
    assert set(mediator.node.contracts) == {"Ask"}


# -- failover, here in passing: test_failover has the rules ------------------------------------------------------------


def test_another_node_is_tried_when_one_did_not_run_it(make: Make) -> None:
    mediator = make(record("a", "Do"), record("b", "Do"), invoker=FakeInvoker(a=failed(), b=2))
    for _ in range(2):
        assert mediator.send(Do()).value == 2


def test_a_request_that_may_have_run_is_not_sent_again(make: Make) -> None:
    lost = failed(delivery=Delivery.UNKNOWN)
    mediator = make(record("a", "Do"), record("b", "Do"), invoker=FakeInvoker(a=lost, b=lost))
    assert mediator.send(Do()).delivery is Delivery.UNKNOWN
    assert len(invoker_of(mediator).calls) == 1


def test_every_try_is_made_under_the_same_request_id(make: Make) -> None:
    mediator = make(record("a", "Do"), record("b", "Do"), invoker=FakeInvoker(a=failed(), b=failed()))
    result = mediator.send(Do())
    assert len(invoker_of(mediator).ids) == 3
    assert set(invoker_of(mediator).ids) == {result.request_id}


# -- time --------------------------------------------------------------------------------------------------------------


def test_no_try_has_more_time_than_the_call(make: Make) -> None:
    mediator = make(record("a", "Do"), request_timeout=7.0)
    mediator.send(Do())
    mediator.send(Do(), timeout=3)
    first, second = invoker_of(mediator).timeouts
    assert 0 < first <= 7.0
    assert 0 < second <= 3.0


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_call_whose_time_is_up_is_sent_to_nobody(make: Make, timeout: float) -> None:
    mediator = make(record("a", "Do"))
    result = mediator.send(Do(), timeout=timeout)
    assert (result.code, result.delivery) == (ErrorCode.DEADLINE_EXCEEDED, Delivery.NOT_EXECUTED)
    assert invoker_of(mediator).calls == []


def test_a_send_from_inside_a_handler_has_what_is_left_of_its_call(make: Make) -> None:
    mediator = make(record("a", "Do"))
    seen = []

    def handler(request: Ask) -> int:
        seen.append(current_call())
        return mediator.send(Do(), timeout=1000).unwrap()

    mediator.handler(handler)
    assert mediator.send(Ask(), timeout=5).value == 1
    (inner,) = invoker_of(mediator).contexts
    (outer,) = seen
    assert inner.deadline.at < outer.deadline.at
    assert invoker_of(mediator).timeouts[0] < 5
    assert inner.request_id != outer.request_id


# -- behaviours --------------------------------------------------------------------------------------------------------


def recording(seen: list[Any], name: str) -> Any:
    def behavior(next_: Any) -> Any:
        seen.append(f"{name} built")

        def handle(request: Any) -> Any:
            seen.append(name)
            result = next_(request)
            seen.append((name, result.value))
            return result

        return handle

    return behavior


def test_behaviours_surround_the_whole_send_once_whatever_the_tries(make: Make) -> None:
    mediator = make(record("a", "Do"), record("b", "Do"), invoker=FakeInvoker(a=[failed(), 1], b=[failed(), 1]))
    seen: list[Any] = []
    mediator.add_behavior(recording(seen, "outer"))
    mediator.add_behavior(recording(seen, "inner"))
    seen.clear()
    mediator.send(Do())
    assert len(invoker_of(mediator).calls) > 1
    assert seen == ["outer", "inner", ("inner", 1), ("outer", 1)]


def test_behaviours_of_the_cluster_and_of_the_node_are_both_run_here_and_only_the_first_for_another(make: Make) -> None:
    mediator = make(record("a", "Do"))
    mediator.register(Ask, lambda request: 5)
    seen: list[Any] = []
    mediator.add_behavior(recording(seen, "cluster"))
    mediator.local.add_behavior(recording(seen, "local"))
    seen.clear()
    mediator.send(Ask())
    assert seen == ["cluster", "local", ("local", 5), ("cluster", 5)]
    seen.clear()
    mediator.send(Do())
    assert seen == ["cluster", ("cluster", 1)]


def test_behaviours_are_not_built_for_a_send(make: Make) -> None:
    mediator = make(record("a", "Do"))
    seen: list[Any] = []
    mediator.add_behavior(recording(seen, "x"))
    for _ in range(10):
        mediator.send(Do())
    assert seen.count("x built") == 1


def test_a_behaviour_that_says_no_keeps_the_request_from_every_node(make: Make) -> None:
    def refuse(next_: Any) -> Any:
        def handle(request: Any) -> Any:
            raise BusinessError("not today", code="shop.closed")

        return handle

    mediator = make(record("a", "Do"))
    mediator.add_behavior(refuse)
    result = mediator.send(Do())
    assert (result.error, result.code, result.delivery) == ("not today", "shop.closed", Delivery.NOT_EXECUTED)
    assert invoker_of(mediator).calls == []
    assert len(result.request_id) == 32


def test_a_behaviour_may_move_the_call_to_another_thread(make: Make) -> None:
    def elsewhere(next_: Any) -> Any:
        def handle(request: Any) -> Any:
            results: list[Any] = []
            thread = threading.Thread(target=lambda: results.append(next_(request)))
            thread.start()
            thread.join(10)
            return results[0]

        return handle

    mediator = make(record("a", "Do"))
    mediator.add_behavior(elsewhere)
    assert mediator.send(Do()).value == 1


# -- batch, stream, broadcast, publish ---------------------------------------------------------------------------------


@pytest.mark.parametrize("behaviors", [0, 1])
def test_a_batch_keeps_the_order_and_each_item_fails_over_alone(make: Make, behaviors: int) -> None:
    def answer(request: Do) -> Any:
        return failed() if request.number == 2 else request.number

    mediator = make(
        record("a", "Do"), record("b", "Do"), invoker=FakeInvoker(a=answer, b=lambda request: -request.number)
    )
    mediator.register(Ask, lambda request: request.number * 10)
    for _ in range(behaviors):
        mediator.add_behavior(lambda next_: next_)
    results = mediator.send_batch([Do(1), Ask(2), Do(2), Do(3), Here()])
    assert [abs(result.value or 0) for result in results] == [1, 20, 2, 3, 0]
    assert [result.is_success for result in results] == [True, True, True, True, False]
    assert len({result.request_id for result in results}) == 5


def test_an_empty_batch_is_empty(make: Make) -> None:
    assert make(record("a", "Do")).send_batch([]) == []


@pytest.mark.parametrize("behaviors", [0, 1])
def test_what_runs_here_runs_in_the_callers_thread_in_a_batch_too(make: Make, behaviors: int) -> None:
    class Batches(FakeInvoker):
        def invoke_batch(self, node: Any, requests: Any, *, timeout: float, calls: Any) -> Any:
            return [
                self.invoke(node, each, timeout=timeout, call=one) for each, one in zip(requests, calls, strict=True)
            ]

    mediator = make(record("a", "Do", features={"batch"}), invoker=Batches(a=1))
    threads: list[threading.Thread] = []
    mediator.register(Ask, lambda request: threads.append(threading.current_thread()) or 1)
    for _ in range(behaviors):
        mediator.add_behavior(lambda next_: next_)
    assert all(mediator.send_batch([Do(1), Ask(2), Do(3), Ask(4)]))
    assert set(threads) == {threading.current_thread()}


def test_a_stream_takes_a_request_only_when_its_result_is_asked_for(make: Make) -> None:
    taken: list[int] = []

    def requests() -> Iterator[Do]:
        for number in range(100):
            taken.append(number)
            yield Do(number)

    mediator = make(record("a", "Do"))
    stream = mediator.send_stream(requests())
    assert taken == []
    next(stream)
    next(stream)
    assert taken == [0, 1]
    assert len(invoker_of(mediator).calls) == 2


def test_a_broadcast_reaches_every_node_that_handles_the_type(make: Make) -> None:
    mediator = make(record("a", "Do"), record("b", "Other"), record("c", "Do"), invoker=FakeInvoker(a=1, c=failed()))
    mediator.register(Do, lambda request: 9)
    assert mediator.broadcast(Do()) == {"a": CatgaResult.success(1), "c": failed(), "me": CatgaResult.success(9)}


def test_a_broadcast_names_those_that_handle_the_type_and_cannot_take_it(make: Make) -> None:
    going = record("b", "Do", status=NodeStatus.DRAINING)
    mediator = make(record("a", "Do"), going, record("c", "Do", status=NodeStatus.SUSPECT))
    results = mediator.broadcast(Do())
    assert {node_id: result.is_success for node_id, result in results.items()} == {"a": True, "b": False, "c": True}
    assert (results["b"].code, results["b"].delivery) == (ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)
    assert "going offline" in (results["b"].error or "")


def test_a_broadcast_to_nobody_has_no_results(make: Make) -> None:
    assert make(record("a", "Other")).broadcast(Do()) == {}


def test_an_event_reaches_the_nodes_with_subscribers_and_the_subscribers_here(make: Make) -> None:
    mediator = make(
        record("a", "Do", subscribes={"Happened"}), record("b", "Do", subscribes=set()), record("c", "Do"),
        invoker=FakeInvoker(a=None),
    )  # fmt: skip
    heard: list[Any] = []
    mediator.subscribe(Happened, heard.append)
    assert mediator.publish(Happened()) == {"a": CatgaResult.success(None), "me": CatgaResult.success(None)}
    assert invoker_of(mediator).calls == [("a", Happened())]
    assert heard == [Happened()]


def test_a_node_that_could_not_be_told_is_in_the_answer(make: Make) -> None:
    lost = failed(delivery=Delivery.UNKNOWN)
    mediator = make(record("a", "Do", subscribes={"Happened"}), invoker=FakeInvoker(a=lost))
    assert mediator.publish(Happened()) == {"a": lost}


def test_a_subscriber_here_knows_its_call(make: Make) -> None:
    mediator = make(request_timeout=7.0)
    seen: list[Any] = []
    mediator.subscribe(Happened, lambda event: seen.append(current_call()))
    mediator.publish(Happened())
    assert 0 < seen[0].remaining() <= 7.0


# -- explain -----------------------------------------------------------------------------------------------------------


def test_an_explanation_sends_nothing_and_says_who_and_why(make: Make) -> None:
    mediator = make(record("a", "Do"), record("b", "Other"), record("c", "Do", status=NodeStatus.DRAINING))
    explanation = mediator.explain(Do())
    assert invoker_of(mediator).calls == []
    assert ids(explanation.candidates) == ["a"]
    assert explanation.chosen.node_id == "a"
    assert {"b", "c"} <= {verdict.node.node_id for verdict in explanation.excluded}
    for word in ("Do", "a", "b", "c", "going offline", "does not handle"):
        assert word in str(explanation)


def test_an_explanation_of_a_request_that_nobody_takes_chooses_nobody(make: Make) -> None:
    assert make(record("a", "Other")).explain(Do()).chosen is None


def test_an_explanation_is_no_attempt(make: Make) -> None:
    class Naive:
        def route(self, message: Any, nodes: tuple[Any, ...]) -> Any:
            return nodes[0]

        def completed(self, node: Any, message: Any, result: CatgaResult[Any], elapsed: float) -> None:
            raise AssertionError("nobody was asked")

    assert make(record("a", "Do"), router=Naive()).explain(Do()).chosen.node_id == "a"


@pytest.mark.parametrize("router", ["least-connections", "least-load", "p2c-ewma", "local-first", "consistent-hash"])
def test_an_explanation_leaves_nothing_in_the_counts_of_a_router(make: Make, router: str) -> None:
    mediator = make(record("a", "Do"), record("b", "Do"), router=router)
    for _ in range(50):
        mediator.explain(Do())
    assert {mediator.send(Do()).node_id for _ in range(20)} == {"a", "b"} if router != "consistent-hash" else {"a"}


def test_a_router_that_fails_chooses_nobody_in_an_explanation(make: Make) -> None:
    class Broken:
        def route(self, message: Any, nodes: tuple[Any, ...]) -> Any:
            raise ValueError("oops")

    explanation = make(record("a", "Do"), router=Broken()).explain(Do())
    assert (ids(explanation.candidates), explanation.chosen) == (["a"], None)


def test_an_explanation_of_a_type_that_stays_here_names_nobody_else(make: Make) -> None:
    mediator = make(NodeRecord(node("a")))
    assert mediator.explain(Here()).candidates == ()
    mediator.register(Here, lambda request: 1)
    assert ids(mediator.explain(Here()).candidates) == ["me"]


def test_a_behaviour_that_is_none_spoils_nothing(make: Make) -> None:
    mediator = make(record("a", "Do"))
    with pytest.raises(RegistrationError, match=r"^behavior: "):
        mediator.add_behavior(5)  # type: ignore[arg-type]
    mediator.add_behavior(lambda next_: next_)
    assert mediator.send(Do())


def test_an_invoker_that_returns_no_result_is_a_failed_call(make: Make) -> None:
    class Wrong(FakeInvoker):
        def invoke(self, *given: Any, **options: Any) -> Any:
            return None

    result = make(record("a", "Do"), invoker=Wrong()).send(Do())
    assert (result.code, result.delivery) == (ErrorCode.INTERNAL, Delivery.UNKNOWN)


# -- nodes and life ----------------------------------------------------------------------------------------------------


def test_constructing_one_starts_nothing_and_asks_nobody(make: Make) -> None:
    store = FakeStore(record("a", "Do"))
    make(store=store)
    assert store.reads == 0
    assert threads_of("me") == []


@pytest.mark.parametrize(
    "call",
    [
        lambda mediator: mediator.send(Do()),
        lambda mediator: mediator.send_batch([Do()]),
        lambda mediator: mediator.publish(Happened()),
        lambda mediator: mediator.broadcast(Do()),
        lambda mediator: mediator.nodes(),
        lambda mediator: mediator.start(),
    ],
    ids=["send", "send_batch", "publish", "broadcast", "nodes", "start"],
)
def test_the_first_call_starts_the_one_thread(make: Make, call: Callable[[ClusterMediator], object]) -> None:
    mediator = make(record("a", "Do"), node_id="starter")
    call(mediator)
    call(mediator)
    assert threads_of("starter") == ["catga-cluster-starter"]
    mediator.close()
    assert threads_of("starter") == []


def test_the_nodes_are_a_tuple_in_the_order_of_their_ids(make: Make) -> None:
    mediator = make(record("b", "Do"), record("a", "Do", age=1.0), record("me", "Do"))
    nodes = mediator.nodes()
    assert isinstance(nodes, tuple)
    assert ids(nodes) == ["a", "b"]
    assert all(each.last_heartbeat is not None for each in nodes)


def test_a_pure_client_is_not_listed(make: Make) -> None:
    mediator = make()
    mediator.start()
    assert mediator.nodes() == ()
    assert mediator.node.endpoint is None


def test_this_node_is_what_its_options_say(make: Make) -> None:
    mediator = make(metadata={"zone": "a"}, endpoint="http://localhost:1")
    assert (mediator.node.node_id, mediator.node.endpoint) == ("me", "http://localhost:1")
    assert dict(mediator.node.metadata) == {"zone": "a"}


def test_events_are_kept_and_told(make: Make) -> None:
    mediator = make(record("a", "Do"))
    heard: list[Any] = []
    mediator.on_event(heard.append)
    mediator.nodes()
    assert [(event.kind.name, event.node) for event in mediator.events()] == [("NODE_JOINED", node("a", "Do"))]
    assert heard == list(mediator.events())


def test_closing_lets_go_of_everything_and_may_be_done_twice(make: Make) -> None:
    store = FakeStore(record("a", "Do"))
    with make(store=store, node_id="closer") as mediator:
        mediator.send(Do())
    mediator.close()
    assert invoker_of(mediator).closed >= 1
    assert store.closed >= 1
    assert threads_of("closer") == []


def test_one_that_was_closed_says_that_it_is_offline(make: Make) -> None:
    mediator = make(endpoint="http://127.0.0.1:1")
    assert mediator.node.status is NodeStatus.ONLINE
    mediator.close()
    assert mediator.node.status is NodeStatus.OFFLINE


def test_one_that_was_closed_can_be_started_again(make: Make) -> None:
    mediator = make(record("a", "Do"), node_id="again")
    mediator.send(Do())
    mediator.close()
    mediator.start()
    assert mediator.send(Do()).value == 1
    assert threads_of("again") == ["catga-cluster-again"]


def test_draining_a_client_waits_for_nothing(make: Make) -> None:
    mediator = make()
    assert mediator.drain(timeout=0) is True
    assert mediator._local_node.draining


def test_a_store_that_is_down_at_first_is_nobody_there(make: Make) -> None:
    store = FakeStore()
    store.error = OSError("no route")
    mediator = make(store=store)
    mediator.register(Ask, lambda request: 5)
    assert mediator.send(Ask()).value == 5
    assert mediator.send(Do()).code is ErrorCode.UNAVAILABLE
    store.error = None
    store.records.append(record("a", "Do"))
    assert until(lambda: mediator.send(Do()).value, "the store is found again") == 1


def test_a_store_that_falls_silent_costs_a_call_nothing(make: Make) -> None:
    store = FakeStore(record("a", "Do"))
    mediator = make(store=store)
    assert mediator.send(Do()).value == 1
    store.answers.clear()
    try:
        reads = store.reads
        until(lambda: store.reads > reads, "the background thread hangs in the store")
        assert mediator.send(Do()).value == 1
    finally:
        store.answers.set()


def test_a_store_that_falls_silent_costs_a_call_that_nobody_takes_no_more_than_its_time(make: Make) -> None:
    store = FakeStore(record("a", "Do"))
    mediator = make(store=store)
    assert mediator.send(Do()).value == 1
    store.answers.clear()
    results: list[Any] = []
    caller = threading.Thread(target=lambda: results.append(mediator.send(Ask(), timeout=0.1)))
    try:
        reads = store.reads
        until(lambda: store.reads > reads, "the background thread hangs in the store")
        caller.start()
        caller.join(20)
        assert len(results) == 1
    finally:
        store.answers.set()
        caller.join(10)


class ImpatientLock:
    """Is never free for a caller, and notes for how long it would have waited; the background thread gets it."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self._lock = threading.Lock()

    def acquire(self, timeout: float) -> bool:
        if timeout < 0:
            return self._lock.acquire()
        self.waits.append(timeout)
        return False

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


@pytest.mark.parametrize(
    "call",
    [
        lambda node: node.send(Ask(), timeout=0.01),
        lambda node: node.send_batch([Ask()], timeout=0.01),
        lambda node: node.broadcast(Ask(), timeout=0.01),
        lambda node: node.explain(Ask(), timeout=0.01),
    ],
    ids=["send", "batch", "broadcast", "explain"],
)
def test_the_first_call_waits_for_another_thread_that_reads_the_store_no_longer_than_its_time(
    make: Make, monkeypatch: pytest.MonkeyPatch, call: Callable[[ClusterMediator], object]
) -> None:
    store = FakeStore(record("a", "Ask"))
    store.answers.clear()
    mediator = make(store=store)
    lock = ImpatientLock()
    monkeypatch.setattr(mediator._membership, "_lock", lock)
    try:
        call(mediator)
    finally:
        store.answers.set()
    assert lock.waits
    assert max(lock.waits) <= 0.01
