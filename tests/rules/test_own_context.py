"""The context that an application gives to a call: the same at the handler, whichever way the call has come."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from catga_sync import ClusterMediator, Event, Mediator, Query, create_cluster
from catga_sync.context import current_call
from catga_sync.hooks import AttemptDetails, HandleDetails, SendDetails
from catga_sync.testing import FakeMediator
from tests.unit.serving import three_ways

GIVEN = {"tenant": "Jörg, 7 %", "empty": ""}


@dataclass(frozen=True)
class Tell(Query[dict[str, str]]):
    """Its response is the context of its call."""


@dataclass(frozen=True)
class Relay(Query[list[dict[str, str]]]):
    """Its handler sends ``Tell`` as it is, with an entry of its own, and as it is again."""


@dataclass(frozen=True)
class Happened(Event):
    pass


class Node:
    """A local mediator with handlers that note the context."""

    def __init__(self) -> None:
        self.events: list[dict[str, str]] = []
        self.local = Mediator()
        self.local.register(Tell, self.tell)
        self.local.register(Relay, self.relay)
        self.local.subscribe(Happened, lambda event: self.events.append(self.tell(None)))

    @staticmethod
    def tell(request: Any) -> dict[str, str]:
        call = current_call()
        return {} if call is None else dict(call.context)

    def relay(self, request: Relay) -> list[dict[str, str]]:
        own = {"tenant": "b", "step": "2"}
        sends: list[Mapping[str, str] | None] = [None, own, None]
        return [self.local.send(Tell(), context=each).unwrap() for each in sends]


@pytest.fixture(scope="module")
def made() -> Iterator[tuple[Node, Mapping[str, Mediator | ClusterMediator]]]:
    node = Node()
    with three_ways(node.local) as ways:
        yield node, ways


WAYS = ("the local mediator", "its node", "another node", "another node in process")
every_way = pytest.mark.parametrize("way", WAYS)


@every_way
def test_a_handler_finds_what_the_caller_gave(made: Any, way: str) -> None:
    mediator = made[1][way]
    assert mediator.send(Tell(), context=GIVEN).unwrap() == GIVEN
    assert mediator.send(Tell(), timeout=20, context=GIVEN).unwrap() == GIVEN
    assert mediator.send(Tell(), context={}).unwrap() == {}
    assert mediator.send(Tell()).unwrap() == {}
    assert current_call() is None


@every_way
def test_all_calls_of_a_batch_or_stream_have_it(made: Any, way: str) -> None:
    mediator = made[1][way]
    requests = [Tell(), Tell(), Tell()]
    for results in (
        mediator.send_batch(requests, context=GIVEN),
        mediator.send_batch(requests, context=GIVEN, timeout=20),
        mediator.send_stream(requests, context=GIVEN),
        mediator.broadcast(Tell(), context=GIVEN).values(),
    ):
        found = [result.unwrap() for result in results]
        assert found
        assert all(each == GIVEN for each in found)
    assert [result.unwrap() for result in mediator.send_batch(requests)] == [{}, {}, {}]


@every_way
def test_a_subscriber_finds_it(made: Any, way: str) -> None:
    node, ways = made
    node.events.clear()
    assert all(ways[way].publish(Happened(), context=GIVEN).values())
    assert all(all(each.values()) for each in ways[way].publish_batch([Happened()], context=GIVEN))
    assert all(ways[way].publish(Happened()).values())
    assert node.events == [GIVEN, GIVEN, {}]


@every_way
def test_a_nested_send_inherits_it_and_what_it_adds_is_its_own(made: Any, way: str) -> None:
    inherited, added, again = made[1][way].send(Relay(), context={"tenant": "a", "user": "1"}).unwrap()
    assert inherited == again == {"tenant": "a", "user": "1"}
    assert added == {"tenant": "b", "user": "1", "step": "2"}


@every_way
@pytest.mark.parametrize(
    ("context", "error"), [({"a b": "1"}, ValueError), ({"a": 1}, TypeError), ("a=1", TypeError)], ids=str
)
def test_a_context_that_cannot_travel_is_a_mistake_of_the_caller(made: Any, way: str, context: Any, error: Any) -> None:
    mediator = made[1][way]
    for call in (
        lambda: mediator.send(Tell(), context=context),
        lambda: mediator.send_batch([Tell()], context=context),
        lambda: list(mediator.send_stream([Tell()], context=context)),
        lambda: mediator.broadcast(Tell(), context=context),
        lambda: mediator.publish(Happened(), context=context),
    ):
        with pytest.raises(error, match=r"^context: "):
            call()


class Watch:
    """A hook that notes the context of each call of which it is told."""

    def __init__(self) -> None:
        self.seen: dict[str, list[dict[str, str]]] = {"send": [], "attempt": [], "handle": []}

    def on_send(self, details: SendDetails) -> None:
        self.seen["send"].append(dict(details.call.context))

    def on_attempt(self, details: AttemptDetails) -> None:
        self.seen["attempt"].append(dict(details.call.context))

    def on_handle(self, details: HandleDetails) -> None:
        self.seen["handle"].append(dict(details.call.context))


@contextlib.contextmanager
def watched(*behaviors: Any) -> Iterator[tuple[ClusterMediator, Watch]]:
    watch = Watch()
    with create_cluster(Node().local, node_id="n", discovery="memory://", environ={}, hooks=[watch]) as mediator:
        for behavior in behaviors:
            mediator.add_behavior(behavior)
        yield mediator, watch


def test_hooks_see_it() -> None:
    with watched() as (mediator, watch):
        assert mediator.send(Tell(), context=GIVEN).unwrap() == GIVEN
        assert mediator.send_batch([Tell()], context=GIVEN)[0].unwrap() == GIVEN
    assert watch.seen == {kind: [GIVEN, GIVEN] for kind in ("send", "attempt", "handle")}


def test_behaviours_of_the_sender_see_it_and_items_of_a_batch_keep_it() -> None:
    seen: list[dict[str, str]] = []

    def behavior(next_: Any) -> Any:
        def handle(request: Any) -> Any:
            seen.append(Node.tell(None))
            return next_(request)

        return handle

    with watched(behavior) as (mediator, _):
        assert [each.unwrap() for each in mediator.send_batch([Tell(), Tell()], context=GIVEN)] == [GIVEN, GIVEN]
    assert seen == [GIVEN, GIVEN]


def test_a_hook_that_replaces_the_baggage_leaves_it_alone() -> None:
    class Tracing:
        def on_send(self, details: SendDetails) -> None:
            details.carrier["baggage"] = "of=tracing"

    with watched() as (mediator, _):
        mediator.add_hook(Tracing())
        assert mediator.send(Tell(), context=GIVEN).unwrap() == GIVEN


def test_nothing_of_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail(request: Happened) -> None:
        raise RuntimeError("no")

    local = Node().local
    local.subscribe(Happened, fail)
    with caplog.at_level(logging.DEBUG, "catga_sync"), create_cluster(local, discovery="memory://", environ={}) as node:
        node.send(Tell(), context={"tenant": "hunter2"})
        node.publish(Happened(), context={"tenant": "hunter2"})
    assert caplog.records
    assert "hunter2" not in caplog.text


def test_a_fake_mediator_gives_it_to_its_functions_and_subscribers() -> None:
    fake = FakeMediator()
    fake.when(Tell).returns(Node.tell)
    seen: list[dict[str, str]] = []
    fake.subscribe(Happened, lambda event: seen.append(Node.tell(event)))
    assert fake.send(Tell(), context=GIVEN).unwrap() == GIVEN
    assert fake.send_batch([Tell()], context=GIVEN)[0].unwrap() == GIVEN
    assert fake.broadcast(Tell(), context=GIVEN)["local"].unwrap() == GIVEN
    fake.publish(Happened(), context=GIVEN)
    assert seen == [GIVEN]
