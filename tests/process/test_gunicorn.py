"""Real gunicorn processes over real sockets: visibility, workers, crossed answers, keep-alive, equal results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from catga_sync import ClusterMediator, Delivery, ErrorCode
from tests import processes
from tests.conftest import require_module
from tests.process.messages import Ask, Do, Fail, Relay
from tests.process.nodes import ROOT, node, wait_for
from tests.processes import free_port, port_is_free, running, until

require_module("gunicorn")
psutil = require_module("psutil")

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    "preload", [pytest.param((), id="", marks=pytest.mark.slow), pytest.param(("--preload",), id="preload")]
)
def test_workers_are_one_node_that_outlives_each_of_them(
    client: ClusterMediator, cluster_name: str, preload: tuple[str, ...]
) -> None:
    with node("n1", cluster_name, "-w", "2", *preload) as server:
        wait_for(client, "n1")
        until(lambda: len(psutil.Process(server.pid).children()) == 2, "two workers")
        workers = psutil.Process(server.pid).children()
        for worker in workers:
            worker.kill()
            until(lambda: len(psutil.Process(server.pid).children()) == 2, "a new worker")
            until(lambda: client.send(Ask("x")).is_success, "an answer")
        assert [each.node_id for each in client.nodes()] == ["n1"]
        assert [event.kind.name for event in client.events()] == ["NODE_JOINED"]
        server.signal(signal.SIGTERM)
        # The worker that was forked last may not have set up its signals yet; gunicorn kills it after 30 s then.
        server.popen.wait(45)
        wait_for(client)


def test_a_node_whose_every_process_is_killed_is_gone(client: ClusterMediator, cluster_name: str) -> None:
    with node("n1", cluster_name, "-w", "2") as server:
        wait_for(client, "n1")
        os.killpg(server.pid, signal.SIGKILL)
        server.popen.wait(20)
        wait_for(client)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [("localhost", "127.0.0.1"), ("127.0.0.1", "localhost")],
)
def test_a_killed_node_is_succeeded_at_once_under_another_spelling_of_its_endpoint(
    client: ClusterMediator, cluster_name: str, before: str, after: str
) -> None:
    port = free_port()
    # The record that it leaves behind outlives the test.
    with node("n1", cluster_name, port=port, HOST=before, HEARTBEAT_TIMEOUT="600") as server:
        wait_for(client, "n1")
        os.killpg(server.pid, signal.SIGKILL)
        server.popen.wait(20)
    until(lambda: port_is_free(port), "the port is free")
    with node("n1", cluster_name, port=port, HOST=after):
        endpoint = f"http://{after}:{port}"
        until(lambda: [each.endpoint for each in client.nodes()] == [endpoint], "the new one is there")


@pytest.mark.slow
def test_a_restarted_node_is_another_incarnation(client: ClusterMediator, cluster_name: str) -> None:
    incarnations = set()
    for _ in range(2):
        with node("n1", cluster_name):
            wait_for(client, "n1")
            incarnations.add(client.nodes()[0].incarnation)
        wait_for(client)
    assert len(incarnations) == 2


@pytest.mark.slow
def test_a_process_that_only_imports_the_app_makes_no_node(client: ClusterMediator, cluster_name: str) -> None:
    env = processes.clean_environment({"NODE": "n1", "PORT": str(free_port()), "CLUSTER": cluster_name})
    script = "import tests.process.app as a, threading; threading.Event().wait(1.5); print(len(a.mediator.nodes()))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
    assert client.nodes() == ()


@pytest.mark.slow
def test_many_threads_get_their_own_answers_from_both_nodes(client: ClusterMediator, cluster_name: str) -> None:
    with node("n1", cluster_name), node("n2", cluster_name):
        wait_for(client, "n1", "n2")
        me = psutil.Process()
        before = me.num_fds()
        wrong: list[object] = []
        served: Counter[str | None] = Counter()
        start = threading.Barrier(32)

        def call(thread: int) -> None:
            start.wait()
            for n in range(15):
                text = f"{thread}-{n}"
                result = client.send((Do if n % 2 else Ask)(text))
                served[result.node_id] += 1
                if not result.is_success or result.value is None or result.value.text != text:
                    wrong.append(result)

        for _ in range(2):
            threads = [threading.Thread(target=call, args=(n,)) for n in range(32)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert wrong == []
        assert set(served) == {"n1", "n2"}
        assert min(served.values()) > 0.4 * sum(served.values())
        # Idle connections are given back: nothing has grown but for what one more call needs.
        until(lambda: me.num_fds() < before + 10, "the idle connections are closed")


@pytest.mark.slow
def test_connections_that_the_server_closed_while_idle_cost_no_call(client: ClusterMediator, cluster_name: str) -> None:
    with node("n1", cluster_name, "--keep-alive", "1", STREAM="off") as server:
        wait_for(client, "n1")
        for _ in range(3):
            with ThreadPoolExecutor(8) as pool:
                results = list(pool.map(client.send, [Do("x")] * 8))
            assert [result for result in results if not result] == []

            def is_idle() -> bool:
                return all(
                    each.status != psutil.CONN_ESTABLISHED or not each.raddr or each.laddr.port != server.port
                    for worker in psutil.Process(server.pid).children()
                    for each in worker.net_connections("tcp")
                )

            until(is_idle, "the server has closed its idle connections")


@pytest.mark.slow
def test_a_handler_can_send_to_a_third_node(client: ClusterMediator, cluster_name: str) -> None:
    with node("leaf", cluster_name, ROLE="leaf"), node("relay", cluster_name, ROLE="relay"):
        wait_for(client, "leaf", "relay")
        # The relay's own view may be a moment behind ours.
        result = until(lambda: client.send(Relay("hello")) or None, "an answer through the relay")
        assert (result.value and result.value.text, result.node_id) == ("hello", "relay")


@pytest.mark.slow
def test_a_failure_is_the_same_here_and_there(client: ClusterMediator, cluster_name: str) -> None:
    from tests.process.app import local, mediator

    codes = {"return": ErrorCode.NOT_FOUND, "raise": "CLOSED", "crash": ErrorCode.UNKNOWN}
    with node("n1", cluster_name) as server, mediator:
        wait_for(client, "n1")
        for how, code in codes.items():
            there = client.send(Fail(how))
            assert "s3cr3t" not in str(there)
            assert ("s3cr3t" in server.output()) == (how == "crash")
            assert local.send(Fail(how)) == there
            assert (there.code, there.delivery) == (code, Delivery.EXECUTED)
            assert how == "crash" or there.error == "not today"


@pytest.mark.slow
def test_two_processes_find_each_other_over_the_default_file_with_no_configuration(tmp_path: Path) -> None:
    environment = {"TMPDIR": str(tmp_path), "NODE": "n1", "CLUSTER": "default"}
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "tests.process.app:app"]
    ask = (
        "import tests.process.app as a, threading\n"
        "for _ in range(1000):\n"
        "    result = a.mediator.send(a.Ask('hi'))\n"
        "    if result: break\n"
        "    threading.Event().wait(0.05)\n"
        "print(result.unwrap().text, result.node_id)\n"
    )
    with running(command, port=port, cwd=ROOT, env={**environment, "PORT": str(port)}):
        env = processes.clean_environment({"TMPDIR": str(tmp_path), "NODE": "n2", "CLUSTER": "default", "ROLE": "none"})
        done = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.stdout.split() == ["hi", "n1"], done.stderr
