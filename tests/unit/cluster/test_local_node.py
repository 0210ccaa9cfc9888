"""How many received calls run at once where nothing tells the number of the server's threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from catga_sync.cluster.local_node import WITHOUT_A_LIMIT, LocalNode
from catga_sync.receiver.refusal import Reason, Refused
from tests.processes import until
from tests.unit.serving_node import counted, local_node


@contextlib.contextmanager
def full(node: LocalNode) -> Iterator[contextlib.ExitStack]:
    """A node that runs as many calls as the bound allows; leaving the stack ends them."""
    with contextlib.ExitStack() as running:
        for _ in range(WITHOUT_A_LIMIT):
            running.enter_context(counted(node, 20.0))
        yield running


class Waiting:
    """A call in a thread of its own that waits for room, and what became of it."""

    def __init__(self, node: LocalNode) -> None:
        self.node = node
        self.refused: Reason | None = None
        self.ran = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        try:
            with counted(self.node, 20.0):
                self.ran = True
        except Refused as exc:
            self.refused = exc.reason

    def waits(self) -> bool:
        return len(self.node._room._waiters) == 1  # type: ignore[attr-defined]


def test_a_call_of_a_stream_waits_until_another_one_has_ended() -> None:
    node = local_node()
    with full(node) as running:
        call = Waiting(node)
        until(call.waits, "the call waits for room")
        assert not call.ran
        running.close()
        call.thread.join(20)
    assert (call.ran, call.refused, node.in_flight) == (True, None, 0)


def test_one_that_has_waited_for_long_enough_is_refused_and_has_not_run() -> None:
    node = local_node()
    with full(node):
        with pytest.raises(Refused) as caught, counted(node, 0.01):
            pytest.fail("it runs")
        assert caught.value.reason is Reason.BUSY
        assert node.in_flight == WITHOUT_A_LIMIT


def test_one_whose_time_is_up_does_not_wait() -> None:
    node = local_node()
    with full(node), pytest.raises(Refused), counted(node, -1.0):
        pytest.fail("it runs")


def test_one_that_waits_while_the_node_begins_to_drain_is_refused() -> None:
    node = local_node()
    with full(node):
        call = Waiting(node)
        until(call.waits, "the call waits for room")
        node.drain()
        call.thread.join(20)
    assert (call.ran, call.refused) == (False, Reason.DRAINING)


def test_the_streams_end_as_soon_as_the_node_refuses_calls() -> None:
    node = local_node()
    seen = []
    node.when_draining = lambda: seen.append(node.draining)
    node.drain()
    assert seen == [True]


def test_a_call_by_post_has_a_thread_of_the_server_and_is_not_bounded_here() -> None:
    node = local_node()
    with full(node), counted(node):
        assert node.in_flight == WITHOUT_A_LIMIT + 1


def test_calls_by_post_keep_none_of_a_stream_from_running() -> None:
    node = local_node()
    with contextlib.ExitStack() as running:
        for _ in range(WITHOUT_A_LIMIT):
            running.enter_context(counted(node))
        with counted(node, -1.0):
            assert node.in_flight == WITHOUT_A_LIMIT + 1


def test_a_call_that_comes_back_waits_for_nothing_since_one_that_runs_here_waits_for_it() -> None:
    node = local_node()
    with full(node):
        with counted(node, -1.0, (("web", 3), (node.node_id, None), ("other", None))):
            assert node.in_flight == WITHOUT_A_LIMIT + 1
        with pytest.raises(Refused), counted(node, -1.0, (("web", 3), ("other", None))):
            pytest.fail("it runs")


def test_where_the_limit_is_known_nothing_waits() -> None:
    node = local_node(max_concurrency=1)
    with counted(node, 20.0), pytest.raises(Refused) as caught, counted(node, 20.0):
        pytest.fail("it runs")
    assert caught.value.reason is Reason.BUSY


def test_a_call_that_was_refused_is_not_counted() -> None:
    node = local_node(max_concurrency=1)
    with counted(node):
        with pytest.raises(Refused):
            node.count_in()
        assert node.in_flight == 1
    assert node.in_flight == 0
