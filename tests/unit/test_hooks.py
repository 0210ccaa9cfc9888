"""Hooks: what they are told of sends, attempts, handlers and events, and that no failure of theirs reaches a call."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from catga_sync import (
    CatgaResult,
    ClusterMediator,
    ClusterNode,
    Delivery,
    ErrorCode,
    Event,
    Mediator,
    Query,
    Request,
    create_cluster,
)
from catga_sync.cluster.events import ClusterEvent, EventKind
from catga_sync.errors import ConfigurationError, RegistrationError
from catga_sync.hooks import AttemptDetails, HandleDetails, SendDetails, ServedDetails, Told, queue_ms
from catga_sync.receiver.receiver import RawRequest
from catga_sync.wire.routes import INVOKE_PATH
from tests.processes import free_port, until
from tests.tables import every_row
from tests.unit.cluster.fakes import FakeInvoker
from tests.unit.serving import serving


@dataclass(frozen=True)
class Ask(Query[int]):
    number: int


@dataclass(frozen=True)
class Outer(Request[int]):
    number: int


@dataclass(frozen=True)
class Happened(Event):
    number: int


ASK, OUTER, HAPPENED = (f"{__name__}.{cls.__name__}" for cls in (Ask, Outer, Happened))


class Notes:
    """A hook that notes what it is told, in order."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.ended: list[tuple[str, CatgaResult[Any]]] = []
        self.events: list[ClusterEvent] = []

    def on_send(self, details: SendDetails) -> Told:
        return self._note("send", details)

    def on_attempt(self, details: AttemptDetails) -> Told:
        return self._note("attempt", details)

    def on_handle(self, details: HandleDetails) -> Told:
        return self._note("handle", details)

    def on_event(self, event: ClusterEvent) -> None:
        self.events.append(event)

    def _note(self, kind: str, details: Any) -> Told:
        self.begun.append(details)
        return lambda result: self.ended.append((kind, result))

    def of(self, kind: type) -> list[Any]:
        return [each for each in self.begun if type(each) is kind]

    @property
    def order(self) -> list[str]:
        return [kind for kind, _ in self.ended]


def local(outer: Callable[[], Any] | None = None) -> Mediator:
    made = Mediator()
    made.register(Ask, lambda request: request.number)
    if outer is not None:
        made.register(Outer, lambda request: outer().send(Ask(request.number)))
    return made


@contextlib.contextmanager
def two_nodes(node_hook: Any, caller_hook: Any) -> Iterator[tuple[ClusterMediator, ClusterMediator]]:
    """Give a node that handles ``Ask`` and ``Outer`` behind a real server, and a caller of it."""
    nodes: list[ClusterMediator] = []
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    handlers = local(lambda: nodes[0])
    handlers.subscribe(Happened, lambda event: None)
    with (
        create_cluster(handlers, node_id="node", endpoint=endpoint, discovery="memory://", hooks=[node_hook]) as node,
        create_cluster(
            Mediator(), node_id="caller", discovery="static", peers={"node": endpoint}, hooks=[caller_hook]
        ) as caller,
        serving(node, port),
    ):
        nodes.append(node)
        caller.start()
        until(lambda: any(each.handles for each in caller.nodes()), "the node has described itself")
        yield node, caller


def over(invoker: FakeInvoker, *hooks: Any, mediator: Mediator | None = None) -> ClusterMediator:
    """Return a caller of two nodes whose responses a test decides."""
    peers = {name: {"url": f"http://{name}:1", "handles": [ASK]} for name in ("a", "b")}
    return create_cluster(
        mediator or Mediator(),
        node_id="caller",
        discovery="static",
        peers=peers,
        invoker=invoker,
        retry_delay=0.0,
        insecure=True,
        hooks=hooks,
    )


# -- what they are told ------------------------------------------------------------------------------------------------


def test_a_send_to_another_node_is_told_on_both_sides():
    at_node, at_caller = Notes(), Notes()
    with two_nodes(at_node, at_caller) as (_, caller):
        result = caller.send(Ask(7))
    assert result.unwrap() == 7
    (send,), (attempt,) = at_caller.of(SendDetails), at_caller.of(AttemptDetails)
    assert (send.type_name, attempt.type_name, attempt.node.node_id, attempt.way) == (ASK, ASK, "node", "post")
    assert at_caller.order == ["attempt", "send"]
    assert not at_caller.of(HandleDetails)
    assert [each.unwrap() for _, each in at_caller.ended] == [7, 7]
    (handle,) = at_node.of(HandleDetails)
    assert handle.type_name == ASK
    assert handle.received
    assert not at_node.of(SendDetails)
    ids = {send.call.request_id, attempt.call.request_id, handle.call.request_id, result.request_id}
    assert len(ids) == 1
    assert handle.call.source_node_id == "caller"
    ((_, handled),) = at_node.ended
    assert (handled.node_id, handled.request_id) == ("node", result.request_id)


def test_a_nested_send_is_told_within_the_handler_and_belongs_to_its_trace():
    at_node, at_caller = Notes(), Notes()
    with two_nodes(at_node, at_caller) as (_, caller):
        assert caller.send(Outer(3)).unwrap() == 3
    assert [(type(each), each.type_name) for each in at_node.begun] == [
        (HandleDetails, OUTER),
        (SendDetails, ASK),
        (AttemptDetails, ASK),
        (HandleDetails, ASK),
    ]
    assert at_node.of(AttemptDetails)[0].way == "local"
    assert [each.received for each in at_node.of(HandleDetails)] == [True, False]
    assert at_node.order == ["handle", "attempt", "send", "handle"]
    assert len({each.call.trace_id for each in (*at_node.begun, *at_caller.begun)}) == 1


class Carries:
    """A hook that puts a trace context into each carrier, with a span of its own for each step."""

    def __init__(self) -> None:
        self.parents: list[str] = []

    def _put(self, details: Any) -> None:
        self.parents.append(f"00-{'c' * 32}-{len(self.parents) + 1:016x}-01")
        details.carrier.update(traceparent=self.parents[-1], tracestate="v=1", baggage="tenant=7", b3="0")

    on_send = on_attempt = on_handle = _put


def test_what_a_hook_puts_into_the_carrier_is_what_the_call_goes_on_with():
    at_node, at_caller, carries = Notes(), Notes(), Carries()
    with two_nodes(at_node, at_caller) as (node, caller):
        caller.add_hook(carries)
        node.add_hook(carries)
        assert caller.send(Outer(3)).unwrap() == 3
    found = [each.call for each in (*at_caller.begun, *at_node.begun)]
    # Each step but the first has the span of the step around it.
    assert [call.traceparent for call in found] == [None, *carries.parents[:-1]]
    assert {call.baggage for call in found[1:]} == {"tenant=7"}
    assert {call.tracestate for call in found[1:]} == {"v=1"}


def test_each_item_of_a_batch_goes_on_with_its_own_carrier():
    at_node, carries = Notes(), Carries()
    with two_nodes(at_node, Notes()) as (_, caller):
        caller.add_hook(carries)
        assert all(caller.send_batch([Ask(1), Ask(2), Ask(3)]))
    handled = at_node.of(HandleDetails)
    assert [each.call.traceparent for each in handled] == carries.parents[3:]
    assert {each.call.baggage for each in handled} == {"tenant=7"}


@every_row("value", [None, 7, b"x", "x\r\nHost: y", "\u00e4", "x" * 100_000])
def test_nothing_that_a_hook_puts_into_a_carrier_harms_the_call(value: Any):
    class Careless:
        def on_send(self, details: Any) -> None:
            details.carrier.update(traceparent=value, tracestate=value, baggage=value)

        on_attempt = on_handle = on_send

    with two_nodes(Careless(), Careless()) as (_, caller):
        assert caller.send(Outer(3)).unwrap() == 3
        assert all(caller.send_batch([Ask(1), Ask(2)]))


def test_the_attempts_of_a_batch_know_the_one_with_which_they_travel():
    at_caller = Notes()
    with two_nodes(Notes(), at_caller) as (_, caller):
        assert all(caller.send_batch([Ask(1), Ask(2), Ask(3)]))
        assert caller.send(Ask(4))
    first, *others, alone = at_caller.of(AttemptDetails)
    assert (first.leader, first.in_batch) == (None, True)
    assert [(each.leader is first, each.in_batch) for each in others] == [(True, True)] * 2
    assert (alone.leader, alone.in_batch) == (None, False)
    assert [each.in_batch for each in at_caller.of(SendDetails)] == [True, True, True, False]


def test_an_event_is_told_as_an_attempt_and_where_its_subscribers_run():
    at_node, at_caller = Notes(), Notes()
    with two_nodes(at_node, at_caller) as (_, caller):
        assert caller.publish(Happened(1))["node"].is_success
    assert [each.type_name for each in at_caller.of(AttemptDetails)] == [HAPPENED]
    assert [(each.type_name, each.received) for each in at_node.of(HandleDetails)] == [(HAPPENED, True)]


def test_a_batch_is_told_item_by_item():
    at_node, at_caller = Notes(), Notes()
    with two_nodes(at_node, at_caller) as (_, caller):
        results = caller.send_batch([Ask(1), Ask(2)])
    ids = [result.request_id for result in results]
    assert [each.call.request_id for each in at_caller.of(SendDetails)] == ids
    assert [each.call.request_id for each in at_caller.of(AttemptDetails)] == ids
    assert [result.unwrap() for kind, result in at_caller.ended if kind == "send"] == [1, 2]
    assert sorted(each.call.request_id for each in at_node.of(HandleDetails)) == sorted(ids)


def test_each_attempt_of_a_call_that_fails_over_is_told_with_its_own_result():
    failed: CatgaResult[Any] = CatgaResult.failure("no", ErrorCode.UNAVAILABLE, delivery=Delivery.NOT_EXECUTED)
    answers = [failed, CatgaResult.success(5)]
    notes = Notes()
    with over(FakeInvoker(a=lambda _: answers.pop(0), b=lambda _: answers.pop(0)), notes) as caller:
        assert caller.send(Ask(1)).unwrap() == 5
    assert {each.node.node_id for each in notes.of(AttemptDetails)} == {"a", "b"}
    assert len({each.call.request_id for each in notes.begun}) == 1
    assert [(kind, result.is_success) for kind, result in notes.ended] == [
        ("attempt", False),
        ("attempt", True),
        ("send", True),
    ]


def test_a_broadcast_is_told_as_an_attempt_at_each_node():
    notes = Notes()
    with over(FakeInvoker(a=1, b=2), notes, mediator=local()) as caller:
        assert len(caller.broadcast(Ask(1))) == 3
    assert sorted((each.node.node_id, each.way) for each in notes.of(AttemptDetails)) == [
        ("a", "post"),
        ("b", "post"),
        ("caller", "local"),
    ]


def test_an_invoker_that_fails_is_told_as_the_failure_that_the_caller_gets():
    notes = Notes()
    with over(FakeInvoker(a=ValueError("x"), b=ValueError("x")), notes) as caller:
        result = caller.send(Ask(1))
    assert notes.ended[-1] == ("send", result)
    assert all(each.code is ErrorCode.INTERNAL for kind, each in notes.ended if kind == "attempt")


class Served:
    """A hook that notes the exchanges and the mediators that it is told of."""

    def __init__(self) -> None:
        self.exchanges: list[ServedDetails] = []
        self.mediators: list[ClusterMediator] = []

    def on_served(self, details: ServedDetails) -> None:
        self.exchanges.append(details)

    def on_added(self, mediator: ClusterMediator) -> None:
        self.mediators.append(mediator)

    def of(self, route: str) -> list[ServedDetails]:
        return [each for each in self.exchanges if each.route == route]


def test_each_exchange_is_told_with_its_bytes():
    served = Served()
    with two_nodes(served, Notes()) as (_, caller):
        single = caller.send(Ask(7))
        batch = caller.send_batch([Ask(1), Ask(2), Ask(3)])
    (invoke,), (together,) = served.of("invoke"), served.of("batch")
    for exchange, results in ((invoke, [single]), (together, batch)):
        assert (exchange.way, exchange.status, exchange.refusals, exchange.replayed) == ("post", 200, (), 0)
        assert exchange.bytes_in == sum(result.metadata["sent_bytes"] for result in results)
        assert exchange.bytes_out == sum(result.metadata["received_bytes"] for result in results)
        assert exchange.seconds >= 0.0
    assert served.of("node")


def test_what_a_node_refuses_is_told_with_the_reason():
    served = Served()
    with two_nodes(served, Notes()) as (node, _):
        response = requests.post(f"{node.node.endpoint}{INVOKE_PATH}", json={}, timeout=10)
        other = node.receiver.handle(RawRequest("GET", "/nowhere", {}, lambda _: b"", None))
    assert response.status_code == 401
    (invoke,) = served.of("invoke")
    assert (invoke.status, invoke.refusals, invoke.bytes_in) == (401, ("unauthenticated",), 0)
    assert invoke.bytes_out == len(response.content)
    assert other.status == 404
    assert [(each.status, each.refusals) for each in served.of("other")] == [(404, ("no_route",))]


def test_a_hook_is_told_to_which_mediators_it_is_added():
    served = Served()
    with two_nodes(served, Notes()) as (node, caller):
        assert served.mediators == [node]
        caller.add_hook(served)
        assert served.mediators == [node, caller]


def test_a_call_that_waits_in_the_queue_tells_how_long():
    at_node = Notes()
    with two_nodes(at_node, Notes()) as (node, caller):
        first, second = caller.send(Ask(1)), caller.send(Ask(2))
        assert node.send(Ask(3)).is_success
    for result in (first, second):
        assert result.metadata.keys() >= {"place_ms", "wire_ms", "backlog_ms"}
        assert min(result.metadata[key] for key in ("place_ms", "wire_ms", "backlog_ms")) >= 0.0
    # Before the first response the caller knows nothing of the node's clock; and what is sent here has no queue.
    unknown, waited, local = (each.queue_ms for each in at_node.of(HandleDetails))
    assert (unknown, local) == (None, None)
    assert 0.0 <= waited < 60_000.0


@every_row(
    ("text", "waited"),
    [
        ("1000000000", 500.0),
        ("1000600000", 0.0),  # a clock that is a little off
        (None, None),
        ("", None),
        ("-1", None),
        ("1e9", None),
        ("²", None),
        ("1" * 17, None),
        ("1" * 9_999, None),
        ("0" * 16, 1_000_500.0),
        ("9" * 16, None),
    ],
)
def test_a_time_of_sending_that_cannot_be_true_is_none(text: str | None, waited: float | None):
    assert queue_ms(text, 1_000.5) == (None if waited is None else pytest.approx(waited))


def test_the_retry_that_the_budget_does_not_allow_is_told():
    class Exhausted:
        seen = 0

        def on_budget_exhausted(self) -> None:
            self.seen += 1

    hook = Exhausted()
    failed: CatgaResult[Any] = CatgaResult.failure("no", ErrorCode.UNAVAILABLE, delivery=Delivery.NOT_EXECUTED)
    with over(FakeInvoker(a=lambda _: failed, b=lambda _: failed), hook) as caller:
        attempts = sum(len(caller.send(Ask(1)).attempts) for _ in range(80))
    # Each call would have made three attempts; the reserve of the budget is a hundred retries.
    assert hook.seen > 0
    assert attempts < 3 * 80


def test_events_of_the_cluster_are_told():
    notes = Notes()
    with over(FakeInvoker(a=1, b=1), notes) as caller:
        caller.send(Ask(1))
    assert {(each.kind, each.node.node_id) for each in notes.events} == {
        (EventKind.NODE_JOINED, "a"),
        (EventKind.NODE_JOINED, "b"),
    }


def test_a_local_send_is_told_with_the_id_of_its_result():
    notes, mediator = Notes(), local()
    mediator.add_hook(notes)
    for timeout in (None, 5.0):
        result = mediator.send(Ask(2), timeout=timeout)
        send, handle = notes.begun[-2:]
        assert send.call.request_id == handle.call.request_id == result.request_id
        assert notes.order[-2:] == ["handle", "send"]
    (failed,) = mediator.send_batch([Outer(1)], timeout=5.0)
    assert notes.ended[-1] == ("send", failed)
    assert failed.request_id == notes.begun[-1].call.request_id


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_every_result_that_is_told_has_the_id_of_its_call(timeout: float | None):
    notes, mediator = Notes(), local()
    mediator.add_hook(notes)
    result = mediator.send(Ask(7), timeout=timeout)
    assert [each.call.request_id for each in notes.begun] == [result.request_id] * 2
    assert [(kind, told.request_id) for kind, told in notes.ended] == [
        ("handle", result.request_id),
        ("send", result.request_id),
    ]
    mediator.publish(Happened(1))
    assert notes.ended[-1][1].request_id == notes.begun[-1].call.request_id


def test_a_local_request_that_is_refused_before_its_handler_is_told_as_a_send_alone():
    """As a remote one is: no handler has run."""
    notes, mediator = Notes(), local()
    mediator.add_hook(notes)
    result = mediator.send(Ask("no number"))  # type: ignore[arg-type]
    assert (result.code, result.delivery) == (ErrorCode.INVALID_ARGUMENT, Delivery.NOT_EXECUTED)
    assert notes.ended == [("send", result)]
    assert mediator.send(Ask(1)).is_success
    assert notes.order == ["send", "handle", "send"]


def test_a_hook_that_is_added_late_is_told_of_handlers_that_were_registered_before_and_after():
    notes, mediator = Notes(), local()
    mediator.send(Ask(1)).unwrap()
    mediator.add_behavior(lambda next_: next_)
    mediator.add_hook(notes)
    mediator.register(Outer, lambda request: request.number)
    mediator.send(Ask(1)).unwrap()
    mediator.send(Outer(1)).unwrap()
    assert [each.type_name for each in notes.of(HandleDetails)] == [ASK, OUTER]


def test_what_is_told_first_is_told_the_result_last():
    told: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def on_send(self, details: SendDetails) -> Told:
            told.append(self.name)
            return lambda result: told.append(self.name)

    mediator = local()
    mediator.add_hook(Named("first"))
    mediator.add_hook(Named("second"))
    mediator.send(Ask(1))
    assert told == ["first", "second", "second", "first"]


def test_details_cannot_be_changed():
    notes, mediator = Notes(), local()
    mediator.add_hook(notes)
    mediator.send(Ask(1))
    for details in notes.begun:
        with pytest.raises(AttributeError):
            details.type_name = "other"


# -- adding ------------------------------------------------------------------------------------------------------------


def test_a_hook_that_is_added_twice_is_told_once():
    notes, mediator = Notes(), local()
    mediator.add_hook(notes)
    mediator.add_hook(notes)
    with over(FakeInvoker(a=1, b=1), notes, mediator=mediator) as caller:
        caller.add_hook(notes)
        mediator.send(Ask(1))
    assert [type(each) for each in notes.begun] == [SendDetails, HandleDetails]


def test_a_hook_may_have_some_of_the_methods():
    class Handles:
        seen = 0

        def on_handle(self, details: HandleDetails) -> None:
            self.seen += 1

    hook, mediator = Handles(), local()
    mediator.add_hook(hook)
    mediator.register(Outer, lambda request: mediator.send(Ask(1)))
    assert mediator.send(Outer(1)).is_success
    assert hook.seen == 2


@every_row("wrong", [Notes, object(), None, 7, "on_send"])
def test_what_is_no_hook_is_refused(wrong: Any):
    with pytest.raises(RegistrationError, match=r"^hooks: give objects with on_send"):
        local().add_hook(wrong)
    with pytest.raises(RegistrationError, match=r"^hooks: give objects with on_send"):
        create_cluster(Mediator(), hooks=[wrong], environ={})


@every_row("wrong", [Notes(), "x", None, {}])
def test_the_hooks_of_the_options_are_a_list(wrong: Any):
    with pytest.raises(ConfigurationError, match=r"^hooks: give a list of hooks"):
        create_cluster(Mediator(), hooks=wrong, environ={})


def test_hooks_can_be_added_while_calls_run():
    mediator, stop, failures = local(), threading.Event(), []

    def call() -> None:
        while not stop.is_set():
            failures.extend(result for result in [mediator.send(Ask(1))] if not result.is_success)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    hooks = [Notes() for _ in range(20)]
    for hook in hooks:
        mediator.add_hook(hook)
    until(lambda: all(len(hook.ended) > 2 for hook in hooks), "every hook was told of a call")
    stop.set()
    for caller in callers:
        caller.join(20)
    assert not failures
    assert all({"send", "handle"} <= set(hook.order) for hook in hooks)


# -- hooks that fail ---------------------------------------------------------------------------------------------------


class Failing:
    """Fails where it is told to: ``on_send``, ``on_attempt``, ``on_handle``, ``on_event`` or ``after``."""

    def __init__(self, *where: str) -> None:
        self.where = where

    def __getattr__(self, name: str) -> Any:
        if name not in ("on_send", "on_attempt", "on_handle", "on_served", "on_event"):
            raise AttributeError(name)

        def method(details: Any) -> Any:
            if name in self.where:
                raise OSError(f"{name} failed")
            return self._after if "after" in self.where else None

        return method

    def _after(self, result: CatgaResult[Any]) -> None:
        raise LookupError("told the result")


@pytest.mark.parametrize("where", ["on_send", "on_attempt", "on_handle", "on_event", "after"])
def test_a_hook_that_fails_is_logged_and_reaches_no_call(where: str, caplog: pytest.LogCaptureFixture):
    after = Notes()
    with over(FakeInvoker(a=1, b=1), Failing(where), after) as caller, caplog.at_level(logging.ERROR):
        assert caller.send(Ask(1)).unwrap() == 1
        caller.local.register(Outer, lambda request: request.number)
        assert caller.send(Outer(4)).unwrap() == 4
        assert [each.unwrap() for each in caller.send_batch([Ask(1), Outer(4)])] == [1, 4]
    assert len(after.of(SendDetails)) == 4
    assert len(after.events) == 2
    lines = [record for record in caplog.records if record.name == "catga_sync.hooks"]
    name = "Failing.on_" if where == "after" else f"Failing.{where}"
    assert lines
    assert all(record.getMessage().startswith(f"the hook {name}") and record.exc_info for record in lines)


def test_a_hook_that_fails_on_the_received_side_reaches_no_caller():
    with two_nodes(Failing("on_handle", "on_served", "after"), Notes()) as (_, caller):
        assert caller.send(Ask(7)).unwrap() == 7
        assert caller.publish(Happened(1))["node"].is_success


def test_the_log_of_a_hook_that_always_fails_is_bounded(caplog: pytest.LogCaptureFixture):
    mediator = local()
    mediator.add_hook(Failing("on_send"))
    for _ in range(200):
        mediator.send(Ask(1))
    # Ten in a second; a busy machine may take a few seconds.
    assert len([record for record in caplog.records if "Failing.on_send" in record.getMessage()]) < 150


def test_what_the_end_of_the_process_cuts_short_is_told_as_cancelled():
    notes, mediator = Notes(), Mediator()

    def leave(request: Ask) -> int:
        raise KeyboardInterrupt

    mediator.register(Ask, leave)
    mediator.add_hook(notes)
    with pytest.raises(KeyboardInterrupt):
        mediator.send(Ask(1))
    assert [(kind, result.code) for kind, result in notes.ended] == [
        ("handle", ErrorCode.CANCELLED),
        ("send", ErrorCode.CANCELLED),
    ]


def test_the_node_of_an_attempt_is_the_one_that_was_chosen():
    notes = Notes()
    with over(FakeInvoker(a=1, b=1), notes) as caller:
        result = caller.send(Ask(1))
    (attempt,) = notes.of(AttemptDetails)
    assert isinstance(attempt.node, ClusterNode)
    assert attempt.node.node_id == result.node_id
