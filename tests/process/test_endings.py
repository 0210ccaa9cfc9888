"""What a handler raises ends its call, whatever it is; what the server raises in the middle of it ends the process."""

from __future__ import annotations

import signal
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from catga_sync import CatgaResult, ClusterMediator, Delivery, ErrorCode
from tests.conftest import require_module
from tests.process.messages import Answer, Ask, Fail, Hold
from tests.process.nodes import ROOT, node, wait_for
from tests.processes import free_port, running, until

require_module("gunicorn")
psutil = require_module("psutil")

pytestmark = pytest.mark.process

SYNC = ("-k", "sync", "--threads", "1")


@pytest.mark.parametrize(
    "options", [pytest.param(SYNC, id="sync", marks=pytest.mark.slow), pytest.param((), id="gthread")]
)
def test_a_handler_that_exits_or_cancels_fails_its_call_and_its_worker_goes_on(
    client: ClusterMediator, cluster_name: str, options: tuple[str, ...]
) -> None:
    with node("n1", cluster_name, *options) as server:
        wait_for(client, "n1")
        before = client.send(Ask("x")).unwrap().pid
        for how in ("exit", "cancel"):
            result = client.send(Fail(how))
            assert (result.code, result.delivery) == (ErrorCode.UNKNOWN, Delivery.EXECUTED), server.output()
            assert client.send(Ask("x")).unwrap().pid == before, server.output()


def held(client: ClusterMediator, pool: ThreadPoolExecutor, started: Path) -> Future[CatgaResult[Answer]]:
    """Send a call that is in the middle of its handler when this returns."""
    future = pool.submit(client.send, Hold(str(started)))
    until(started.exists, "the handler has begun")
    return future


@pytest.mark.slow
@pytest.mark.parametrize("how", ["quit", "timeout"])
def test_a_sync_worker_that_is_told_to_end_ends_in_the_middle_of_a_handler(
    client: ClusterMediator, cluster_name: str, tmp_path: Path, how: str
) -> None:
    """Gunicorn's handlers of SIGQUIT, and of the SIGABRT that a worker gets after its timeout, raise SystemExit."""
    with (
        ThreadPoolExecutor() as pool,
        node("n1", cluster_name, *SYNC, *(("--timeout", "3") if how == "timeout" else ())) as server,
    ):
        wait_for(client, "n1")
        (worker,) = psutil.Process(server.pid).children()
        future = held(client, pool, tmp_path / "started")
        if how == "quit":
            worker.send_signal(signal.SIGQUIT)
        assert future.result(20).delivery is Delivery.UNKNOWN, server.output()
        until(lambda: not worker.is_running(), "the worker has ended")
        assert "the handler of" not in server.output()


def test_flask_s_server_in_one_thread_ends_at_control_c_in_the_middle_of_a_handler(
    client: ClusterMediator, cluster_name: str, tmp_path: Path
) -> None:
    port = free_port()
    # A shell that starts the tests in the background has them, and so the server, ignore SIGINT.
    begin = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('flask', run_name='__main__')"
    )
    command = [sys.executable, "-c", begin, "--app", "tests.process.app", "run", "--without-threads", "-p", str(port)]
    env = {"NODE": "n1", "PORT": str(port), "CLUSTER": cluster_name}
    with ThreadPoolExecutor() as pool, running(command, port=port, cwd=ROOT, env=env) as server:
        wait_for(client, "n1")
        future = held(client, pool, tmp_path / "started")
        server.signal(signal.SIGINT)
        server.popen.wait(20)
        assert future.result(20).delivery is Delivery.UNKNOWN
