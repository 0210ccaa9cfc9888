"""The executor by itself: what runs an envelope, whichever way it came. No HTTP takes part."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from catga_sync.context import CallContext, current_call
from catga_sync.deadline import Deadline
from catga_sync.mediator import Mediator
from catga_sync.messages import Query, message
from catga_sync.receiver import executor
from catga_sync.receiver.call import CallMeta, Progress
from catga_sync.receiver.executor import Executor
from catga_sync.receiver.memory_budget import MemoryBudget
from catga_sync.receiver.refusal import Reason, Refused
from catga_sync.receiver.surroundings import Surroundings
from catga_sync.wire.envelope import RequestEnvelope, ResponseEnvelope


@message(name="Ask", aliases=["Acme.Ask, Acme.Contracts, Version=1.0.0.0"])
@dataclass(frozen=True)
class Ask(Query[int]):
    number: int = 0


class World:
    def __init__(self) -> None:
        self.local = Mediator()
        self.local.registry.register(Ask)
        self.calls: list[CallContext | None] = []
        memory = MemoryBudget(1_000_000)
        self.executor = Executor(self.local, "node-1", None, Surroundings(), memory, max_body_bytes=10_000)

    def handle(self, request: Ask) -> int:
        self.calls.append(current_call())
        return request.number

    def run(self, meta: CallMeta | None = None, *, name: str = "Ask", response: str = "int") -> ResponseEnvelope:
        envelope = RequestEnvelope(name, response, b'{"number":7}', "r-1")
        self.progress = Progress("r-1")
        return self.executor.run(envelope, meta or CallMeta("r-1", Deadline.after(5.0)), self.progress)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def ready(world: World) -> World:
    world.local.register(Ask, world.handle)
    return world


def test_what_comes_with_a_request_is_what_its_handler_sees(ready: World) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    deadline = Deadline.after(5.0)
    meta = CallMeta(
        "r-1",
        deadline,
        (("web", 5),),
        "web",
        parent,
        "vendor=x",
        hung_up=lambda: False,
        baggage="tenant=7",
        context_text="user=8",
    )
    response = ready.run(meta)
    assert (response.is_success, response.payload, ready.progress.executed) == (True, b"7", True)
    (call,) = ready.calls
    assert call == CallContext(
        "r-1",
        deadline,
        source_node_id="web",
        traceparent=parent,
        tracestate="vendor=x",
        chain=(("web", 5),),
        baggage="tenant=7",
        context_text="user=8",
        node_id="node-1",
    )


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        (CallMeta("r-1", Deadline(0.0)), Reason.EXPIRED),
        (CallMeta("r-1", Deadline(math.inf), hung_up=lambda: True), Reason.HUNG_UP),
        (CallMeta("r-1", Deadline(math.inf), store="0" * 32), Reason.OTHER_STORE),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_what_is_not_to_run_is_refused_and_has_not_run(ready: World, meta: CallMeta, reason: Reason) -> None:
    with pytest.raises(Refused) as caught:
        ready.run(meta)
    assert (caught.value.reason, ready.progress.executed_header, ready.calls) == (reason, "0", [])


def test_a_type_that_gets_its_handler_later_is_served_from_then_on(world: World) -> None:
    with pytest.raises(Refused) as caught:
        world.run()
    assert caught.value.reason is Reason.NO_HANDLER
    world.local.register(Ask, world.handle)
    assert world.run().is_success


def test_a_type_that_is_known_is_still_checked_for_its_response(ready: World) -> None:
    assert ready.run().is_success
    with pytest.raises(Refused) as caught:
        ready.run(response="str")
    assert caught.value.reason is Reason.WRONG_RESPONSE_TYPE


def test_the_names_that_are_remembered_are_bounded_and_all_others_are_served_as_well(
    ready: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "_MOST_KNOWN", 3)
    for version in range(6):
        assert ready.run(name=f"Acme.Ask, Acme.Contracts, Version={version}.0.0.0").is_success
    assert len(ready.executor._known) == 3
