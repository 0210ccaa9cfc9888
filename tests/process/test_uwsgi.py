"""uWSGI in all its modes: it forks in C, behind Python's back, and runs no Python threads unless it is told to."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from catga_sync import ClusterMediator, Mediator, create_cluster
from tests.conftest import require_module, require_service
from tests.process.messages import Ask, Do, Relay
from tests.process.nodes import ROOT, default_file, node, wait_for
from tests.processes import Process, free_port, running, until

require_module("gunicorn")  # for the other nodes
UWSGI = Path(sys.executable).with_name("pyuwsgi")
require_service(UWSGI.exists(), "needs uWSGI: pip install pyuwsgi")

pytestmark = pytest.mark.process

#: Options with which uWSGI runs Python threads ...
THREADED = {
    "one process": ("--enable-threads",),
    "threads": ("--threads", "4"),
    "forks in C": ("--master", "--processes", "3", "--enable-threads"),
    "forks in C, threads": ("--master", "--processes", "2", "--threads", "4"),
    "forks in C, no master": ("--processes", "2", "--enable-threads"),
    "lazy-apps": ("--master", "--processes", "2", "--lazy-apps", "--enable-threads"),
    "python hooks": ("--master", "--processes", "2", "--py-call-osafterfork", "--enable-threads"),
}
#: ... and those with which it does not.
STILL = {
    "default": (),
    "forks in C": ("--master", "--processes", "2"),
    "lazy-apps": ("--master", "--processes", "2", "--lazy-apps"),
}


@contextlib.contextmanager
def uwsgi(name: str, cluster_name: str, *options: str, **environment: str) -> Iterator[Process]:
    """Run one node until the block is left; ``options`` are uWSGI's."""
    port = free_port()
    command = [UWSGI, "--http", f"127.0.0.1:{port}", "--home", sys.prefix, "--pythonpath", ROOT]
    command += ["--module", "tests.process.app:app", "--need-app", "--die-on-term", "--no-orphans", *options]
    env = {"NODE": name, "PORT": str(port), "CLUSTER": cluster_name, "HEARTBEAT": "0.5", **environment}
    with running(command, port=port, cwd=ROOT, env=env) as process:
        yield process


#: Those that other tests here start as well, or that differ from one of the others in one option: "make soak" has them.
ELSEWHERE = {"one process", "threads", "forks in C", "forks in C, threads", "forks in C, no master", "lazy-apps"}
CASES = [
    pytest.param(options, id=name, marks=pytest.mark.slow if name in ELSEWHERE else [])
    for name, options in THREADED.items()
]


@pytest.mark.parametrize("options", CASES)
def test_a_node_with_threads_is_seen_serves_sends_and_leaves(
    options: tuple[str, ...], client: ClusterMediator, cluster_name: str
) -> None:
    with node("leaf", cluster_name, ROLE="leaf"), uwsgi("u", cluster_name, *options, ROLE="relay") as server:
        wait_for(client, "leaf", "u")
        until(lambda: client.send(Relay("x"), timeout=20.0).is_success, "each sees the other")
        for _ in range(20):
            result = client.send(Relay("x"), timeout=20.0)
            assert (result.is_success, result.node_id) == (True, "u"), (result, server.output())
        assert "Traceback" not in server.output()
        server.stop()
        wait_for(client, "leaf")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(STILL["default"], id="default"),
        pytest.param(STILL["forks in C"], id="forks in C"),
        pytest.param(STILL["lazy-apps"], id="lazy-apps"),
    ],
)
def test_calls_from_and_to_a_node_without_threads_end_in_time_and_it_says_what_to_set(
    options: tuple[str, ...], cluster_name: str
) -> None:
    with node("leaf", cluster_name, ROLE="leaf"), uwsgi("u", cluster_name, *options, ROLE="relay") as server:
        with create_cluster(Mediator(), node_id="direct", cluster_name=cluster_name, peers={"u": server.url}) as direct:
            # Only then it is known that no connection is kept there.
            until(lambda: direct.nodes()[0].handles, "the node has described itself")

            def relayed() -> bool:
                result = direct.send(Relay("x"), timeout=20.0)
                # Its own send found no node yet: the caller is told the code, and the node's log has the text.
                assert result.is_success or result.code == "UNAVAILABLE", (result, server.output())
                return result.is_success

            until(relayed, "the other node is seen from there")
            for _ in range(20):
                assert relayed()
        said = server.output()
        assert "Traceback" not in said
        assert "uWSGI runs no threads here, so this node sends no heartbeats and others do not see it" in said


@pytest.mark.slow
def test_calls_go_to_all_processes_of_one_node(client: ClusterMediator, cluster_name: str) -> None:
    with uwsgi("u", cluster_name, *THREADED["forks in C"]) as server:
        wait_for(client, "u")
        pids: set[int] = set()

        def all_have_answered() -> bool:
            result = client.send(Ask("x"), timeout=20.0)
            assert result.value is not None, (result, server.output())
            pids.add(result.value.pid)
            return len(pids) >= 2

        until(all_have_answered, "two processes have answered")
        assert server.pid not in pids
        assert [each.node_id for each in client.nodes()] == ["u"]


@pytest.mark.slow
def test_a_signed_node_that_forks_in_c_lets_each_call_in_once(cluster_name: str) -> None:
    secret = "s" * 32
    with (
        uwsgi("u", cluster_name, *THREADED["forks in C, threads"], SECRET=secret) as server,
        create_cluster(
            Mediator(), node_id="c", cluster_name=cluster_name, discovery=default_file(cluster_name), secret=secret
        ) as client,
    ):
        wait_for(client, "u")
        results = [client.send(Do("x"), timeout=20.0) for _ in range(30)]
        assert all(result.is_success for result in results), server.output()


@pytest.mark.slow
def test_a_worker_that_uwsgi_starts_anew_goes_on_in_the_same_node(client: ClusterMediator, cluster_name: str) -> None:
    with uwsgi("u", cluster_name, *THREADED["forks in C"]) as server:
        wait_for(client, "u")
        before = client.nodes()[0].incarnation
        first = client.send(Ask("x"), timeout=20.0).value
        assert first is not None
        os.kill(first.pid, 9)

        def another_answers() -> bool:
            answer = client.send(Ask("x"), timeout=20.0).value
            return answer is not None and answer.pid != first.pid

        until(another_answers, "another process answers")
        until(lambda: "Respawned uWSGI worker" in server.output(), "the worker is started anew")
        assert [each.incarnation for each in client.nodes()] == [before]


@pytest.mark.slow
def test_a_chunked_request_is_refused_in_time_and_the_node_goes_on(client: ClusterMediator, cluster_name: str) -> None:
    # Served unsigned, so that it is not refused for that: what is wrong with it is that it has no length.
    with uwsgi("u", cluster_name, *THREADED["one process"], INSECURE="1") as server:
        wait_for(client, "u")
        head = (
            "POST /catga/cluster/invoke HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port), 20) as sock:
            sock.sendall(head.encode("ascii"))
            assert sock.recv(12).endswith(b" 411")
        assert client.send(Ask("x"), timeout=20.0).is_success


def test_it_is_the_real_thing() -> None:
    said = subprocess.run([UWSGI, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    assert said.startswith("2.")
