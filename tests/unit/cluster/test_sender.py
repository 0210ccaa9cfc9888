"""One attempt at one node: what a call gets that has no place there, and whatever an invoker returns."""

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
    create_cluster,
    message,
)
from catga_sync.context import CallContext
from catga_sync.hooks import AttemptDetails
from catga_sync.pipeline import for_others
from tests.processes import until
from tests.unit.cluster.fakes import FakeClock, FakeInvoker, FakeStore, record


@message(name="Ask")
@dataclass(frozen=True)
class Ask(Query[int]):
    number: int = 0


@dataclass
class Full:
    """A mediator whose only other node has no place left for a call."""

    mediator: ClusterMediator
    invoker: FakeInvoker


@pytest.fixture
def full() -> Iterator[Full]:
    go = threading.Event()

    def hangs(request: Any) -> int:
        go.wait(30)
        return 1

    invoker = FakeInvoker(a=hangs)
    store = FakeStore(record("a", "Ask", concurrency=1))
    with create_cluster(Mediator(), discovery=store, invoker=invoker, node_id="me", enable_failover=False) as mediator:
        first = threading.Thread(target=mediator.send, args=(Ask(),))
        first.start()
        try:
            until(lambda: len(invoker.calls) == 1, "the place is taken")
            yield Full(mediator, invoker)
        finally:
            go.set()
            first.join(10)


def only(results: dict[str, CatgaResult[Any]]) -> CatgaResult[Any]:
    ((node_id, result),) = results.items()
    assert node_id == "a"
    return result


#: Each makes a call that finds no place.
CALLS: dict[str, Callable[[ClusterMediator], CatgaResult[Any]]] = {
    "send": lambda node: node.send(Ask(), timeout=0.2),
    "broadcast": lambda node: only(node.broadcast(Ask(), timeout=0.2)),
}


@pytest.mark.parametrize("kind", CALLS)
def test_a_call_without_a_place_is_not_sent(full: Full, kind: str) -> None:
    result = CALLS[kind](full.mediator)
    assert (result.code, result.delivery) == (ErrorCode.RESOURCE_EXHAUSTED, Delivery.NOT_EXECUTED)
    assert len(full.invoker.calls) == 1


@pytest.mark.parametrize("kind", CALLS)
def test_its_text_names_the_node_and_stays_on_this_one(full: Full, kind: str) -> None:
    result = CALLS[kind](full.mediator)
    assert "http://a:1" in (result.error or "")
    assert "http://a:1" not in (for_others(result, "Outer").error or "")


@pytest.mark.parametrize("kind", CALLS)
def test_it_has_the_id_that_is_in_the_log(full: Full, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    result = CALLS[kind](full.mediator)
    assert f"not sent: request_id={result.request_id} " in caplog.text


def test_a_flood_of_them_is_a_few_lines(
    full: Full, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full.mediator._sender._limited_log, "_clock", FakeClock())
    for _ in range(30):
        full.mediator.send(Ask(), timeout=0.001)
    assert len([line for line in caplog.messages if line.startswith("not sent:")]) == 10


def test_a_place_is_free_again_after_an_invoker_has_failed() -> None:
    def quits(request: Any) -> int:
        raise SystemExit("no")

    invoker = FakeInvoker(a=[RuntimeError("no"), quits, 7])
    store = FakeStore(record("a", "Ask", concurrency=1))
    with create_cluster(Mediator(), discovery=store, invoker=invoker, node_id="me", enable_failover=False) as mediator:
        assert [mediator.send(Ask(), timeout=5.0).value for _ in range(3)] == [None, None, 7]


class Reading:
    """A hook that reads the id of every result."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def on_attempt(self, details: AttemptDetails) -> Callable[[CatgaResult[Any]], None]:
        return lambda result: self.seen.append((details.call.request_id, result.request_id))


class Forgetful(FakeInvoker):
    """Returns results without an id, one and the same for all; also for batches."""

    answer: CatgaResult[Any] = CatgaResult.success(7)

    def invoke(self, *_: Any, **__: Any) -> CatgaResult[Any]:
        return self.answer

    def invoke_batch(self, node: Any, requests: Sequence[Any], **_: Any) -> list[CatgaResult[Any]]:
        return [self.answer] * len(requests)


class Failing(FakeInvoker):
    """Raises, for batches too."""

    def invoke(self, *_: Any, **__: Any) -> CatgaResult[Any]:
        raise RuntimeError("no")

    def invoke_batch(self, *_: Any, **__: Any) -> list[CatgaResult[Any]]:
        raise RuntimeError("no")


@pytest.mark.parametrize("make", [Forgetful, Failing])
def test_a_hook_that_reads_the_id_of_a_result_sees_that_of_the_call_and_so_does_the_caller(
    make: Callable[[], FakeInvoker],
) -> None:
    hook = Reading()
    store = FakeStore(record("a", "Ask", features={"batch"}))
    with create_cluster(
        Mediator(), discovery=store, invoker=make(), node_id="me", hooks=[hook], enable_failover=False
    ) as mediator:
        results = [mediator.send(Ask()), mediator.send(Ask()), *mediator.send_batch([Ask(), Ask()])]
        results += mediator.broadcast(Ask()).values()
    assert len({result.request_id for result in results}) == 5
    assert hook.seen == [(result.request_id, result.request_id) for result in results]


def test_a_hook_changes_no_id_of_a_call_without_a_place(full: Full) -> None:
    hook = Reading()
    full.mediator.add_hook(hook)
    result = full.mediator.send(Ask(), timeout=0.2)
    assert hook.seen == [(result.request_id, result.request_id)]


@pytest.mark.parametrize("timeout", [0.0, -0.5])
def test_a_call_whose_time_is_up_finds_no_place_since_its_time_is_up(
    full: Full, timeout: float, caplog: pytest.LogCaptureFixture
) -> None:
    # As after a wait between two attempts that took longer than it was to.
    sender, a = full.mediator._sender, record("a", "Ask", concurrency=1).node
    one = sender.send(a, Ask(), timeout, CallContext("r-1"))
    (several,) = sender.send_batch(a, [Ask()], timeout, [CallContext("r-2")])
    for result in (one, several):
        assert (result.code, result.delivery) == (ErrorCode.DEADLINE_EXCEEDED, Delivery.NOT_EXECUTED)
    assert (one.request_id, several.request_id) == ("r-1", "r-2")
    assert caplog.messages == []


def test_a_forked_child_has_all_places_whatever_its_parent_has_under_way(full: Full) -> None:
    full.invoker.answers["a"] = 7
    full.mediator._sender.after_fork_in_child()
    assert full.mediator.send(Ask(), timeout=5.0).value == 7
