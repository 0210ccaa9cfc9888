"""A request that this node takes anyway: its result is the same whichever way it goes."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from catga_sync import CatgaResult, ClusterMediator, ErrorCode, Mediator, Query, Request, create_cluster, message
from catga_sync.context import CallContext, current_call, enter_call, leave_call
from catga_sync.errors import BusinessError, Delivery
from catga_sync.testing import override_handler
from tests.unit.cluster.fakes import FakeInvoker, FakeStore, record
from tests.unit.serving_node import counted


@message(name="Ask")
@dataclass(frozen=True)
class Ask(Query[int]):
    number: Any = 0


@message(name="Do")
@dataclass(frozen=True)
class Do(Request[int]):
    number: int = 0


@message(name="Inner")
@dataclass(frozen=True)
class Inner(Query[str]):
    pass


class LongWay:
    """A router as the default one; any object of the user's own is asked in each call."""

    def route(self, message: Any, nodes: Any) -> Any:
        return next((node for node in nodes if node.node_id == "me"), nodes[0])


Make = Callable[..., ClusterMediator]
#: The router of each of the two ways.
WAYS = pytest.mark.parametrize("router", ["local-first", LongWay()], ids=["short", "long"])


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[ClusterMediator] = []

    def make(*records: Any, handlers: dict[Any, Callable[[Any], Any]], **options: Any) -> ClusterMediator:
        local = Mediator()
        for kind, function in handlers.items():
            local.register(kind, function)
        given = {"node_id": "me", "invoker": FakeInvoker(a=1, b=2), "retry_delay": 0.0, "environ": {}, **options}
        made.append(create_cluster(local, discovery=FakeStore(*records), **given))
        made[-1].start().nodes()
        return made[-1]

    yield make
    for mediator in made:
        mediator.close()


def refuse(next_: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda request: CatgaResult.failure("not now", ErrorCode.UNAVAILABLE)


def fail(request: Any) -> Any:
    raise BusinessError("no", code="mine")


def crash(request: Any) -> Any:
    raise RuntimeError("secret")


def told(result: CatgaResult[Any]) -> dict[str, Any]:
    """Return all of a result but its id and its times."""
    attempts = [(each.node_id, each.delivery, each.code, each.error) for each in result.attempts]
    metadata = {name: value for name, value in result.metadata.items() if name != "place_ms"}
    found = {**result.to_dict(), "attempts": attempts, "metadata": metadata}
    return {name: value for name, value in found.items() if name not in ("request_id", "processing_time_ms")}


def both(make: Make, *records: Any, send: Callable[[ClusterMediator], CatgaResult[Any]], **given: Any) -> Any:
    short, long = (make(*records, router=router, **given) for router in ("local-first", LongWay()))
    found = send(short)
    assert told(found) == told(send(long))
    assert any(short._short_way._known[2].values())  # each has gone its way
    assert not long._short_way._known[2]
    return found


@pytest.mark.parametrize("others", [(), (record("a", "Ask", "Do"),)], ids=["alone", "with others"])
@pytest.mark.parametrize("kind", [Ask, Do])
@pytest.mark.parametrize("function", [lambda request: request.number + 1, fail, crash, lambda request: "text"])
def test_a_response_and_each_failure_of_a_handler_are_the_same(make: Make, others: Any, kind: Any, function: Any):
    result = both(make, *others, handlers={kind: function}, send=lambda mediator: mediator.send(kind(4)))
    assert (result.node_id, result.delivery) == ("me", Delivery.EXECUTED)
    assert [attempt.node_id for attempt in result.attempts] == ["me"]
    assert result.attempts[0].elapsed > 0.0


@pytest.mark.parametrize("others", [(), (record("a", "Ask"),)], ids=["alone", "with others"])
def test_so_are_a_request_that_does_not_fit_and_one_that_a_behaviour_of_the_node_refuses(make: Make, others: Any):
    handlers = {Ask: lambda request: 1}
    unfit = both(make, *others, handlers=handlers, send=lambda mediator: mediator.send(Ask(object())))
    assert (unfit.code, unfit.delivery) == (ErrorCode.INVALID_ARGUMENT, Delivery.NOT_EXECUTED)

    def refused(mediator: ClusterMediator) -> CatgaResult[Any]:
        mediator.local.add_behavior(refuse)
        return mediator.send(Ask(1))

    assert both(make, *others, handlers=handlers, send=refused).delivery is Delivery.NOT_EXECUTED


@WAYS
def test_the_handler_finds_its_call_and_the_result_has_its_id(make: Make, router: Any):
    seen: list[CallContext | None] = []

    def handle(request: Ask) -> int:
        seen.append(current_call())
        return 1

    mediator = make(handlers={Ask: handle}, router=router, request_timeout=9.0)
    for timeout, least in ((None, 8.0), (90.0, 80.0)):
        result = mediator.send(Ask(), timeout=timeout)
        (call,) = seen
        seen.clear()
        assert call is not None
        assert (call.node_id, call.depth, call.chain, call.source_node_id) == ("me", 0, (), None)
        left = call.remaining()
        assert left is not None
        assert least < left <= (timeout or 9.0)
        twins = (copy.copy(call), pickle.loads(pickle.dumps(call)), call.with_changes(depth=1))
        assert {call.request_id, result.request_id, *(twin.request_id for twin in twins)} == {result.request_id}
        assert call.trace_id == result.request_id
    assert current_call() is None


@WAYS
def test_what_a_handler_sends_is_within_its_call(make: Make, router: Any):
    seen: dict[str, CallContext | None] = {}

    def outer(request: Ask) -> int:
        seen["outer"] = current_call()
        return len(mediator.send(Inner()).unwrap())

    def inner(request: Inner) -> str:
        seen["inner"] = current_call()
        return "inner"

    mediator = make(handlers={Ask: outer, Inner: inner}, router=router)
    assert mediator.send(Ask()).unwrap() == 5
    one, other = seen["outer"], seen["inner"]
    assert one is not None
    assert other is not None
    assert (other.depth, other.trace_id) == (1, one.trace_id)
    assert other.request_id != one.request_id
    assert other.deadline.at < one.deadline.at  # type: ignore[union-attr] # both have one


@WAYS
def test_a_call_whose_time_is_up_is_not_started(make: Make, router: Any):
    mediator = make(handlers={Ask: crash}, router=router)
    for timeout in (0, -1.0):
        result = mediator.send(Ask(), timeout=timeout)
        assert (result.code, result.delivery) == (ErrorCode.DEADLINE_EXCEEDED, Delivery.NOT_EXECUTED)
    with pytest.raises(TypeError, match=r"^timeout: "):
        mediator.send(Ask(), timeout="1")  # type: ignore[arg-type]


def test_a_call_that_another_handler_of_this_process_could_take_is_sent_on_after_a_failure_that_may_pass(make: Make):
    def unavailable(next_: Callable[[Any], Any]) -> Callable[[Any], Any]:
        failure: CatgaResult[Any] = CatgaResult.failure("busy", ErrorCode.UNAVAILABLE, delivery=Delivery.NOT_EXECUTED)
        return lambda request: failure

    def send(mediator: ClusterMediator) -> CatgaResult[Any]:
        mediator.local._local_step = lambda *_: unavailable(crash)  # type: ignore[assignment]
        mediator.local.add_behavior(lambda next_: next_)
        return mediator.send(Ask(1))

    result = both(make, record("a", "Ask"), handlers={Ask: crash}, send=send)
    assert [attempt.node_id for attempt in result.attempts] == ["me", "a"]
    assert result.value == 1


def test_what_is_added_later_counts_from_the_next_call_on(make: Make):
    mediator = make(handlers={Ask: lambda request: 1})
    assert mediator.send(Ask()).value == 1
    seen: list[str] = []

    class Watches:
        def on_attempt(self, details: Any) -> None:
            seen.append(details.way)

    def behavior(next_: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda request: seen.append("behaviour") or next_(request)

    mediator.local.add_behavior(behavior)
    mediator.send(Ask())
    assert seen == ["behaviour"]
    mediator.add_hook(Watches())
    mediator.send(Ask())
    assert seen == ["behaviour", "local", "behaviour"]
    mediator.add_behavior(behavior)
    mediator.send(Ask())
    assert seen[3:] == ["behaviour", "local", "behaviour"]


def test_every_call_counts_in_the_budget_of_further_attempts(make: Make):
    mediator = make(handlers={Ask: lambda request: 1})
    budget = mediator._short_way._dispatcher._budget
    before = sum(budget._calls)
    for _ in range(3):
        mediator.send(Ask())
    assert sum(budget._calls) - before == 3


def test_a_node_without_room_leaves_a_call_to_others(make: Make):
    mediator = make(record("a", "Ask"), handlers={Ask: lambda request: 7}, max_concurrency=1)
    assert mediator.send(Ask()).node_id == "me"
    with counted(mediator._local_node):
        assert mediator.send(Ask()).node_id == "a"
    assert mediator.send(Ask()).node_id == "me"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_ids_of_its_own(make: Make):
    mediator = make(handlers={Ask: lambda request: 1})
    mediator.send(Ask())
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, mediator.send(Ask()).request_id.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = pipe.read()
    os.waitpid(child, 0)
    assert len(theirs) == 32
    assert theirs != mediator.send(Ask()).request_id


def test_a_call_that_is_the_current_one_of_its_thread_is_around_the_send(make: Make):
    mediator = make(handlers={Ask: lambda request: 1})
    outer = CallContext("outer")
    token = enter_call(outer)
    try:
        result = mediator.send(Ask())
    finally:
        leave_call(token)
    assert result.request_id != "outer"
    assert result.value == 1


def test_what_is_no_request_is_not_kept(make: Make) -> None:
    node = make(router="local-first", handlers={Ask: lambda request: 1})
    node.nodes()
    for number in range(3):
        with pytest.raises(TypeError):
            node.send(type(f"Other{number}", (), {})())
    assert node._short_way._known[2] == {}


class Notes:
    """A hook that notes what it is told; ``late`` is where it takes all the time that the call has."""

    def __init__(self, late: str | None = None) -> None:
        self.late = late
        self.noted: list[tuple[Any, ...]] = []
        self.results: list[CatgaResult[Any]] = []

    def _begins(self, step: str, details: Any) -> Callable[[CatgaResult[Any]], None]:
        rest = [each for each in details[2:] if not isinstance(each, dict)]
        self.noted.append((step, details.type_name, details.call.traceparent, details.call.node_id, *map(str, rest)))
        details.carrier["traceparent"] = f"00-{'c' * 32}-{len(self.noted):016x}-01"
        while step == self.late and details.call.remaining() > 0.0:
            pass

        def ends(result: CatgaResult[Any]) -> None:
            self.noted.append((step, told(result), result.request_id == details.call.request_id))
            self.results.append(result)

        return ends

    def on_send(self, details: Any) -> Any:
        return self._begins("send", details)

    def on_attempt(self, details: Any) -> Any:
        return self._begins("attempt", details)

    def on_handle(self, details: Any) -> Any:
        return self._begins("handle", details)


@pytest.mark.parametrize("others", [(), (record("a", "Ask"),)], ids=["alone", "with others"])
@pytest.mark.parametrize(("function", "number"), [(lambda request: 1, 1), (fail, 1), (crash, 1), (crash, object())])
def test_hooks_are_told_the_same(make: Make, others: Any, function: Any, number: Any):
    notes: list[Notes] = []

    def send(mediator: ClusterMediator) -> CatgaResult[Any]:
        notes.append(Notes())
        mediator.add_hook(notes[-1])
        result = mediator.send(Ask(number))
        assert notes[-1].results[-1] is result
        return result

    both(make, *others, handlers={Ask: function}, send=send)
    short, long = notes
    assert short.noted == long.noted
    assert {step for step, *_ in short.noted} >= {"send", "attempt"}
    assert len({result.request_id for result in short.results}) == 1


class Attempts(Notes):
    """Notes attempts alone."""

    on_send = on_handle = None


@pytest.mark.parametrize("kind", [Notes, Attempts])
def test_the_result_of_another_call_that_a_behaviour_returns_is_told_as_that_of_this_call(make: Make, kind: Any):
    other = CatgaResult(True, 5, node_id="other", request_id="f" * 32)
    notes: list[Notes] = []

    def send(mediator: ClusterMediator) -> CatgaResult[Any]:
        notes.append(kind())
        mediator.local.add_behavior(lambda next_: lambda request: other)
        mediator.add_hook(notes[-1])
        return mediator.send(Ask(1))

    result = both(make, handlers={Ask: crash}, send=send)
    assert (result.value, result.node_id) == (5, "me")
    assert notes[0].noted == notes[1].noted
    assert all(ended for step, _, ended, *_ in notes[0].noted[len(notes[0].noted) // 2 :])
    assert {each.request_id for each in (*notes[1].results, *notes[0].results)}.isdisjoint({"f" * 32})


@pytest.mark.parametrize("late", ["send", "attempt"])
def test_a_hook_that_takes_all_the_time_of_a_call_has_its_handler_not_started(make: Make, late: str):
    notes: list[Notes] = []

    def send(mediator: ClusterMediator) -> CatgaResult[Any]:
        notes.append(Notes(late))
        mediator.add_hook(notes[-1])
        return mediator.send(Ask(), timeout=0.05)

    result = both(make, handlers={Ask: crash}, send=send)
    assert (result.code, result.delivery) == (ErrorCode.DEADLINE_EXCEEDED, Delivery.NOT_EXECUTED)
    assert notes[0].noted == notes[1].noted


def test_a_failure_that_may_pass_is_told_as_one_attempt_of_two(make: Make):
    def unavailable(next_: Callable[[Any], Any]) -> Callable[[Any], Any]:
        failure: CatgaResult[Any] = CatgaResult.failure("busy", ErrorCode.UNAVAILABLE, delivery=Delivery.NOT_EXECUTED)
        return lambda request: failure

    notes: list[Notes] = []

    def send(mediator: ClusterMediator) -> CatgaResult[Any]:
        notes.append(Notes())
        mediator.add_hook(notes[-1])
        mediator.local._local_step = lambda *_: unavailable(crash)  # type: ignore[assignment]
        mediator.local.add_behavior(lambda next_: next_)
        return mediator.send(Ask(1))

    assert both(make, record("a", "Ask"), handlers={Ask: crash}, send=send).value == 1
    assert notes[0].noted == notes[1].noted
    assert [step for step, *_ in notes[0].noted] == ["send", "attempt", "attempt", "attempt", "attempt", "send"]


@WAYS
def test_what_the_end_of_the_process_cuts_short_is_told_to_hooks(make: Make, router: Any):
    def leave(request: Ask) -> int:
        raise KeyboardInterrupt

    notes = Notes()
    mediator = make(handlers={Ask: leave}, router=router, hooks=[notes])
    with pytest.raises(KeyboardInterrupt):
        mediator.send(Ask())
    assert [result.code for result in notes.results] == [ErrorCode.CANCELLED] * 3
    assert current_call() is None


@pytest.mark.parametrize("watched", [False, True], ids=["no hook", "hooks"])
def test_a_handler_that_a_test_has_lent_is_not_sought_after_it_is_gone(make: Make, watched: bool) -> None:
    cluster = make(handlers={Do: lambda request: 1})
    if watched:
        cluster.add_hook(Notes())
    with override_handler(cluster, Ask, lambda request: 7):
        assert cluster.send(Ask()).value == 7
    result = cluster.send(Ask())
    assert (result.code, result.delivery) == (ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)


@WAYS
def test_a_call_keeps_its_time_while_a_test_holds_the_clock(
    make: Make, monkeypatch: pytest.MonkeyPatch, router: Any
) -> None:
    """As ``freezegun`` does, which replaces the functions of ``time`` in every module."""
    left: list[Any] = []

    def ask(request: Ask) -> int:
        call = current_call()
        assert call is not None
        left.append(call.remaining())
        return len(cluster.send(Inner()).unwrap())

    cluster = make(handlers={Ask: ask, Inner: lambda request: "in"}, router=router)
    monkeypatch.setattr("time.monotonic", lambda: 1.7e9)
    result = cluster.send(Ask())
    monkeypatch.undo()
    assert result.value == 2
    assert 0.0 < left[0] <= 30.0
