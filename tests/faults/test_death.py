"""A node is killed with everything it has, under load, and comes back."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from catga_sync.routing import create_router
from tests.conftest import require_module
from tests.faults.load import Load, Watched
from tests.faults.nodes import HEARTBEAT, Nodes, redis_server
from tests.processes import until

require_module("gunicorn")

pytestmark = pytest.mark.process

#: What a busy machine may add to a time that is promised, in seconds.
PATIENCE = 10.0
#: Calls of one client that a node of 8 threads may hold at once.
PLACES = 6
#: Calls a second: what costs time here is to make them.
RATE = 100


@pytest.mark.slow
@pytest.mark.parametrize("store", ["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def test_a_killed_node_costs_no_query_and_only_the_plain_requests_it_was_running(store: str, tmp_path: Path) -> None:
    router = Watched(create_router("round-robin"))
    with contextlib.ExitStack() as stack:
        environment = {"CATGA_DISCOVERY": stack.enter_context(redis_server()).url} if store == "redis" else {}
        nodes = stack.enter_context(Nodes(tmp_path, **environment))
        _, b, _ = nodes.start("a", "b", "c")
        with nodes.client(router=router) as client:
            nodes.see(client, "a", "b", "c")
            with Load(client, nodes.told, rate=RATE, timeout=20.0) as load:
                until(load.answered(20, by="b"), "node b serves")
                killed = b.kill()
                gone = time.monotonic()
                until(load.answered(100, after=killed), "calls are answered without it")
                until(load.answered(RATE, after=killed + 2.0), "calls are answered two seconds later")
                starting = time.monotonic()
                listening = b.start()
                until(load.answered(20, by="b", after=listening), "it serves again")
            back = min(each.returned for each in load.told if each.node == "b" and each.sent > killed)
    assert nodes.wrong() == []
    assert [each for each in load.failed if each.kind == "query"] == []
    for each in load.failed:
        assert (each.delivery, each.attempts[-1][0]) == ("UNKNOWN", "b"), each
        assert each.sent <= gone, each
    assert len(load.failed) <= 2 * PLACES
    # Nobody knocks at a dead node's door for longer than a second: by the calls of one, for machines stand still.
    choices = [node for at, node in router.choices if gone < at < starting]
    assert len(choices) > RATE
    assert "b" not in choices[RATE:]
    assert back - listening <= HEARTBEAT + 1.0 + PATIENCE
