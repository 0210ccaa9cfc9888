"""Two nodes come with one id, as happens when a configuration is copied."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import require_module
from tests.faults import ledger
from tests.faults.messages import Do
from tests.faults.nodes import Nodes, redis_server
from tests.processes import until

require_module("gunicorn")

pytestmark = [pytest.mark.process, pytest.mark.slow]


def assert_the_first_stays(nodes: Nodes) -> None:
    (first,) = nodes.start("a")
    with nodes.client() as client:
        nodes.see(client, "a")
        assert client.send(Do("before")).is_success
        (second,) = nodes.start("a")
        said = until(lambda: second.process.output() if "is taken by" in second.process.output() else None, "")
        assert "'a'" in said or " a " in said
        assert first.endpoint in said
        assert [client.send(Do(f"after-{n}")).is_success for n in range(20)] == [True] * 20
        assert [(each.node_id, each.endpoint) for each in client.nodes()] == [("a", first.endpoint)]
        assert [event.kind.name for event in client.events()] == ["NODE_JOINED"]
        pids = {run.pid for run in ledger.executions(nodes.ran)}
        assert len(pids) == 1
        # The place is free once the first is gone, however it went.
        first.kill()
        until(lambda: [each.endpoint for each in client.nodes()] == [second.endpoint], "the second takes its place")
        assert until(lambda: client.send(Do("then")) or None, "it serves").is_success
        assert "is taken by" not in first.process.output()


def test_the_second_is_refused_with_a_clear_error(nodes: Nodes) -> None:
    assert_the_first_stays(nodes)


@pytest.mark.redis
def test_the_second_is_refused_over_redis(tmp_path: Path) -> None:
    with redis_server() as server, Nodes(tmp_path, CATGA_DISCOVERY=server.url) as nodes:
        assert_the_first_stays(nodes)
