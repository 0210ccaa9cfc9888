"""A node in a process of its own that is killed, hangs or is ended: what its callers are told, by every way."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from catga_sync import CatgaResult, ClusterMediator, Delivery, ErrorCode, Mediator, create_cluster
from tests.channels.nodes import Ways
from tests.conftest import require_module
from tests.process import nodes
from tests.process.messages import Answer, Do, Hold
from tests.processes import Process, free_port, group_is_gone, running, stopped, until

require_module("gunicorn")

pytestmark = pytest.mark.process

#: "make soak" has all of them.
every_way = pytest.mark.parametrize(
    "way", [pytest.param("post", marks=pytest.mark.slow), "stream", pytest.param("grpc", marks=pytest.mark.slow)]
)
HOOKS = ("-c", "python:catga_sync.integrations.gunicorn")


@pytest.fixture
def cluster_name() -> str:
    return f"tests-{uuid.uuid4().hex[:12]}"


@contextlib.contextmanager
def serving(way: str, cluster_name: str, port: int) -> Iterator[Process]:
    """Run the node ``n1`` in processes of its own."""
    if way != "grpc":
        with nodes.node("n1", cluster_name, *HOOKS, port=port) as process:
            yield process
        return
    require_module("grpc")
    env = {"NODE": "n1", "PORT": str(port), "CLUSTER": cluster_name, "SCHEME": "grpc"}
    command = [sys.executable, "-m", "tests.channels.grpc_app"]
    with running(command, port=port, cwd=nodes.ROOT, env=env) as process:
        yield process


@contextlib.contextmanager
def calling(way: str, cluster_name: str, port: int) -> Iterator[ClusterMediator]:
    """Give a caller of the node, once that has described itself; all its calls go by the one way."""
    ways = Ways()
    scheme = "grpc" if way == "grpc" else "http"
    with create_cluster(
        Mediator(),
        node_id="caller",
        cluster_name=cluster_name,
        discovery="static",
        peers={"n1": f"{scheme}://127.0.0.1:{port}"},
        stream="off" if way == "post" else "auto",
        hooks=[ways],
        environ={},
    ) as mediator:
        until(lambda: any("batch" in each.features for each in mediator.nodes()), "the node describes itself")
        assert mediator.send(Do("first")).is_success
        assert ways.seen == [way]
        yield mediator


def held(
    caller: ClusterMediator, pool: ThreadPoolExecutor, folder: Path, seconds: float
) -> Future[CatgaResult[Answer]]:
    """Send a call that is in its handler for so many seconds when this returns."""
    started = folder / "started"
    future = pool.submit(caller.send, Hold(str(started), seconds))
    until(started.exists, "the handler runs")
    return future


@pytest.mark.slow
@every_way
def test_a_node_that_is_killed_leaves_its_call_unknown_and_is_called_again_when_it_is_back(
    way: str, cluster_name: str, tmp_path: Path
) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        with serving(way, cluster_name, port) as process:
            caller = stack.enter_context(calling(way, cluster_name, port))
            running_call = held(caller, pool, tmp_path, 60.0)
            os.killpg(process.pid, signal.SIGKILL)
            process.popen.wait()
            result = running_call.result(60)
            assert (result.code, result.delivery) == (ErrorCode.UNAVAILABLE, Delivery.UNKNOWN)
            until(lambda: group_is_gone(process.pid), "its processes are gone")
        result = caller.send(Do("nobody there"))
        assert (result.code, result.delivery) == (ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)
        with serving(way, cluster_name, port):
            until(lambda: caller.send(Do("back")).is_success, "it serves again")


@every_way
def test_a_node_that_hangs_costs_a_call_its_time_and_does_not_run_it_later(
    way: str, cluster_name: str, tmp_path: Path
) -> None:
    port, late = free_port(), tmp_path / "late"
    with serving(way, cluster_name, port) as process, calling(way, cluster_name, port) as caller:
        with stopped(process.pid):
            result = caller.send(Hold(str(late), 0.0), timeout=1.0)
        assert (result.code, result.delivery) == (ErrorCode.DEADLINE_EXCEEDED, Delivery.UNKNOWN)
        until(lambda: caller.send(Do("on")).is_success, "it serves again")
        process.signal(signal.SIGTERM)
        assert process.popen.wait(60) == 0
    # It has ended gracefully, with all that it had to run.
    assert not late.exists()


@pytest.mark.slow
@every_way
def test_sigterm_ends_what_runs_and_takes_no_more(way: str, cluster_name: str, tmp_path: Path) -> None:
    port = free_port()
    with (
        serving(way, cluster_name, port) as process,
        calling(way, cluster_name, port) as caller,
        ThreadPoolExecutor(1) as pool,
    ):
        running_call = held(caller, pool, tmp_path, 3.0)
        process.signal(signal.SIGTERM)
        until(lambda: caller.send(Do("more")).delivery is Delivery.NOT_EXECUTED, "it takes no more")
        assert running_call.result(60).is_success
        assert process.popen.wait(60) == 0
