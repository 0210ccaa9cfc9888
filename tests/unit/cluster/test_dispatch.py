"""The candidates of a call are found once a snapshot, and are those of each call all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from catga_sync import CatgaResult, ClusterMediator, Mediator, Request, create_cluster, message
from catga_sync.cluster.local_node import SHARED_IDEMPOTENCY
from catga_sync.context import CallContext, enter_call, leave_call
from catga_sync.deadline import Deadline
from tests.unit.cluster.fakes import FakeInvoker, FakeStore, record

ONE, TWO = (frozenset({SHARED_IDEMPOTENCY + name}) for name in ("one", "two"))


@message(name="Do")
@dataclass(frozen=True)
class Do(Request[int]):
    number: int = 0


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def cluster(stack: ExitStack, store: FakeStore) -> ClusterMediator:
    options: dict[str, Any] = {"node_id": "me", "invoker": FakeInvoker(a=1, b=2, c=3), "environ": {}}
    mediator = stack.enter_context(create_cluster(Mediator(), discovery=store, **options))
    mediator.start().nodes()
    return mediator


def send_on(mediator: ClusterMediator, chain: tuple[tuple[str, int | None], ...]) -> CatgaResult[int]:
    """Send as the handler of a call that has come over these nodes."""
    token = enter_call(CallContext("r-1", Deadline.after(20.0), chain=chain))
    try:
        return mediator.send(Do())
    finally:
        leave_call(token)


def test_a_store_that_only_the_nodes_off_the_path_have_in_common_counts_for_that_call_alone(stack: ExitStack) -> None:
    nodes = record("a", "Do", features=ONE), record("b", "Do", features=ONE), record("c", "Do", features=TWO)
    mediator = cluster(stack, FakeStore(*nodes))
    for _ in range(2):
        assert "idempotency" not in mediator.send(Do()).metadata
        assert send_on(mediator, (("c", 0),)).metadata["idempotency"] == "shared"
        assert "idempotency" not in send_on(mediator, (("c", 5),)).metadata
        alone = send_on(mediator, (("a", 0), ("b", 0)))
        assert (alone.value, alone.metadata.get("idempotency")) == (3, None)
        assert "would wait for itself" in str(send_on(mediator, (("a", 0), ("b", 0), ("c", 0))).error)


def test_a_handler_that_is_registered_here_later_is_a_candidate(stack: ExitStack) -> None:
    mediator = cluster(stack, FakeStore(record("a", "Do")))
    assert [mediator.send(Do()).value for _ in range(2)] == [1, 1]
    mediator.register(Do, lambda request: 10)
    assert {mediator.send(Do()).value for _ in range(4)} == {10}


def test_the_candidates_are_those_of_the_present_snapshot(stack: ExitStack) -> None:
    store = FakeStore(record("a", "Do"), record("b", "Other"))
    mediator = cluster(stack, store)
    assert mediator.send(Do()).value == 1
    store.records = [record("a", "Other", seq=2), record("b", "Do", seq=2)]
    mediator._membership.refresh()
    assert mediator.send(Do()).value == 2
    store.records = [record("a", "Other", seq=3), record("b", "Other", seq=3)]
    mediator._membership.refresh()
    assert "Do" in str(mediator.send(Do()).error)
    store.records = [record("a", "Do", seq=4), record("b", "Other", seq=4)]
    mediator._membership.refresh()
    assert mediator.send(Do()).value == 1
