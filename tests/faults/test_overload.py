"""More callers than threads: they wait their turn; far more: those that have no chance are told so at once."""

from __future__ import annotations

import time

import pytest

from catga_sync import ErrorCode
from tests.conftest import require_module
from tests.faults import ledger
from tests.faults.load import Load, verdict_of
from tests.faults.messages import Do, Go
from tests.faults.nodes import Nodes
from tests.processes import until

require_module("gunicorn")

pytestmark = pytest.mark.process

#: Seconds that a handler takes, and how many run at once on two nodes of 8 threads. So long that the callers' own
#: process has time left at four times the capacity: else its threads would be what is slow.
SECONDS, PLACES = 0.1, 12
CAPACITY = PLACES / SECONDS


def test_more_callers_than_threads_wait_and_none_is_refused(nodes: Nodes) -> None:
    nodes.start("a", "b")
    with nodes.client() as client:
        nodes.see(client, "a", "b")
        with Load(client, nodes.told, callers=32, queries=0.0, timeout=30.0) as load:
            until(load.answered(250), "calls are answered")
    assert load.failed == []
    assert nodes.wrong() == []
    assert {len(each.attempts) for each in load.told} == {1}


def served(load: Load, since: float, until_: float) -> int:
    """Return how many calls have succeeded in that time."""
    return sum(each.success and since < each.returned < until_ for each in load.told)


@pytest.mark.slow
def test_four_times_the_capacity_is_served_at_capacity(nodes: Nodes) -> None:
    nodes.start("a", "b")
    with nodes.client() as client:
        nodes.see(client, "a", "b")
        # What the nodes do without overload: other tests run beside this one.
        began = time.monotonic()
        with Load(client, nodes.told, callers=PLACES, queries=0.5, seconds=SECONDS, timeout=30.0) as calm:
            until(lambda: time.monotonic() > began + 3.0, "three seconds")
        usual = served(calm, began + 1.0, began + 3.0) / 2.0
        began = time.monotonic()
        with Load(
            client, nodes.told, callers=600, rate=4 * CAPACITY, queries=0.5, seconds=SECONDS, timeout=1.0
        ) as load:
            until(lambda: time.monotonic() > began + 5.0, "five seconds")
    assert nodes.wrong() == []
    # It does not collapse: that would be a few per cent.
    assert usual > 0
    assert served(load, began + 1.0, began + 5.0) / 4.0 >= 0.4 * min(usual, CAPACITY)
    # Nobody is kept waiting for a "no" that is certain, not for half of the time that there is to wait.
    refused = sorted(each.seconds for each in load.failed if each.code == "RESOURCE_EXHAUSTED")
    assert len(refused) > 0.5 * len(load.failed)
    assert refused[len(refused) // 2] < 0.25
    # Nothing is started whose caller has gone.
    sent = {each.text: each for each in load.told}
    runs = [(run, sent[run.text]) for run in ledger.executions(nodes.ran) if run.text in sent]
    assert runs
    assert [run for run, call in runs if run.start > max(call.sent + 1.0, call.returned) + 0.25] == []


@pytest.mark.slow
def test_a_call_that_comes_back_to_a_full_node_fails_at_once(nodes: Nodes) -> None:
    nodes.start("a", HANDLES="Go", options=("--threads", "2"))
    nodes.start("b", HANDLES="Come", options=("--threads", "2"))
    with nodes.client() as client:
        nodes.see(client, "a", "b")
        # The two have to see each other, too; a call without a loop shows it.
        until(lambda: client.send(Go("there", 1)).is_success or None, "a finds b")
        sent = time.monotonic()
        result = client.send(Go("there and back", 2), timeout=60.0)
    took = time.monotonic() - sent
    assert result.code is ErrorCode.FAILED_PRECONDITION
    assert "would wait for itself" in (result.error or "")
    assert "a -> b" in (result.error or "")
    assert took < 20.0  # of the minute that it has
    assert "there and back" not in {run.text for run in ledger.executions(nodes.ran)}


@pytest.mark.slow
def test_two_loops_that_block_each_other_end(nodes: Nodes) -> None:
    """A waits for B while B waits for A, in two calls: no chain shows it, and neither hangs."""
    from concurrent.futures import ThreadPoolExecutor

    for name in ("a", "b"):
        nodes.start(name, HANDLES="Go" if name == "a" else "Come", options=("--threads", "2"))
    with nodes.client() as client, ThreadPoolExecutor(8) as pool:
        nodes.see(client, "a", "b")
        until(lambda: client.send(Go("there", 1)).is_success or None, "a finds b")
        results = list(pool.map(lambda n: client.send(Go(f"loop {n}", 1), timeout=20.0), range(40)))
    told = [verdict_of(each, f"loop {n}", "plain", 0.0, 20.0) for n, each in enumerate(results)]
    assert [each for each in told if each.code == "DEADLINE_EXCEEDED"] == []


@pytest.mark.slow
def test_a_chain_with_room_may_come_back(nodes: Nodes) -> None:
    nodes.start("a", HANDLES="Go,Do")
    nodes.start("b", HANDLES="Come")
    with nodes.client() as client:
        nodes.see(client, "a", "b")
        assert until(lambda: client.send(Go("loop", 4)) or None, "a finds b").is_success
        assert client.send(Do("after")).is_success


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param("python:tests.faults.bare", id="told by each request"),
        pytest.param("python:catga_sync.integrations.gunicorn", id="told by the hooks"),
    ],
)
def test_a_server_with_one_thread_neither_waits_for_itself_nor_is_silent_about_it(nodes: Nodes, settings: str) -> None:
    server = ("-k", "sync", "--threads", "1", "-c", settings)
    (a,) = nodes.start("a", HANDLES="Go", options=server)
    nodes.start("b", HANDLES="Come", options=server)
    with nodes.client() as client:
        nodes.see(client, "a", "b")
        until(lambda: client.send(Go("there", 1)).is_success or None, "a finds b")
        sent = time.monotonic()
        result = client.send(Go("there and back", 2), timeout=60.0)
        client.send(Go("there", 1))
    assert result.code is ErrorCode.FAILED_PRECONDITION, result
    assert "would wait for itself" in (result.error or "")
    assert time.monotonic() - sent < 20.0  # of the minute that it has
    assert a.process.output().count("its server has one thread") == 1
