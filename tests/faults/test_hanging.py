"""A node hangs with its connections open, as one does whose machine swaps, and goes on later."""

from __future__ import annotations

import time

import pytest

from catga_sync import ClusterEvent
from catga_sync.routing import create_router
from tests.conftest import require_module
from tests.faults import ledger
from tests.faults.load import Load, Watched
from tests.faults.nodes import Nodes
from tests.processes import until

require_module("gunicorn")

pytestmark = pytest.mark.process

#: Half of the time of a call is more than a busy machine stands still: a node that does not hang gives each its place.
CALLERS, TIMEOUT = 32, 6.0
#: Of them, those that a node of 8 threads takes at once from one client.
PLACES = 6
#: Failures in a row that eject a node.
IN_A_ROW = 5


@pytest.mark.slow
@pytest.mark.parametrize("queries", [pytest.param(1.0, id="queries"), pytest.param(0.0, id="plain")])
def test_a_hanging_node_costs_a_few_calls_and_runs_nothing_that_has_expired(nodes: Nodes, queries: float) -> None:
    # A node is told from a hanging one by its calls alone: by its heartbeats it is well all the time.
    nodes.environment.update(CATGA_HEARTBEAT_INTERVAL="5", CATGA_HEARTBEAT_TIMEOUT="30")
    router = Watched(create_router("round-robin"))
    _, b, _ = nodes.start("a", "b", "c")
    with nodes.client(router=router) as client:
        nodes.see(client, "a", "b", "c")

        def noticed(kind: object) -> bool:
            return (kind, "b") in {(event.kind, event.node.node_id) for event in client.events()}

        # The handlers take their time, so that the callers do not take all of the machine's.
        with Load(client, nodes.told, callers=CALLERS, queries=queries, seconds=0.1, timeout=TIMEOUT) as load:
            until(load.answered(20, by="b"), "it serves")
            with b.paused():
                hung = time.monotonic()
                until(lambda: noticed(ClusterEvent.NODE_FAULTED), "it is left out")
                ejected = time.monotonic()
                until(load.answered(100, after=ejected), "calls are answered without it")
                last = router.last("b")
                until(
                    lambda: time.monotonic() > last + TIMEOUT + ledger.SKEW,
                    "everything that was sent there has expired",
                )
            until(lambda: noticed(ClusterEvent.NODE_RECOVERED), "it is let back", 40.0)
            until(load.answered(20, by="b", after=time.monotonic()), "it serves again")
    waited = [each for each in load.told if any(node == "b" and ran != "EXECUTED" for node, ran, _ in each.attempts)]
    assert nodes.wrong() == []
    assert 0 < len(waited) <= CALLERS + IN_A_ROW
    assert max(each.seconds for each in load.told) < TIMEOUT + 10.0
    # What it had taken on may have run; what only waited there was served by another node.
    assert {(each.kind, each.delivery, each.attempts[-1][0]) for each in load.failed} <= {("plain", "UNKNOWN", "b")}
    assert len(load.failed) <= (0 if queries else PLACES)
    # Whatever lay in its sockets and has expired was not run: the executions there pause as long as it did.
    starts = sorted(each.start for each in ledger.executions(nodes.ran) if each.node == "b")
    assert [start for start in starts if hung + 0.5 < start < hung + 3.0] == []
