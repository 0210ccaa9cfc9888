"""``catga-sync drain`` on real gunicorn nodes: it waits for what runs, sends callers elsewhere, and loses no call."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catga_sync import CatgaResult, ClusterMediator, ErrorCode, Mediator, create_cluster
from tests.conftest import require_module
from tests.process.operated import Ask, Do
from tests.process.operators import HOOKS, Cluster, Held
from tests.processes import Process, free_port, until

require_module("gunicorn")
psutil = require_module("psutil")

pytestmark = pytest.mark.process


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "nodes.sqlite3")


@pytest.fixture
def client(cluster: Cluster) -> Iterator[ClusterMediator]:
    with create_cluster(
        Mediator(), node_id="driver", cluster_name="ops", discovery=cluster.url, router="round-robin"
    ) as mediator:
        yield mediator


def wait_for(client: ClusterMediator, *names: str) -> None:
    def online() -> bool:
        return [each.node_id for each in client.nodes() if each.status.name == "ONLINE"] == sorted(names)

    until(online, f"exactly {names} are online")


@pytest.mark.slow
@pytest.mark.parametrize("hooks", [(), HOOKS], ids=["bare", "hooks"])
def test_a_drain_waits_for_the_handler_that_runs_in_the_other_worker(
    cluster: Cluster, client: ClusterMediator, tmp_path: Path, hooks: tuple[str, ...]
) -> None:
    with cluster.node("n1", "-w", "2", *hooks) as server:
        cluster.wait_for("n1")
        wait_for(client, "n1")
        first, second = until(lambda: _pair(psutil.Process(server.pid).children()), "two workers")
        # While one worker is stopped, the other one takes what comes.
        first.suspend()
        held = Held(cluster, tmp_path / "held")
        first.resume()
        second.suspend()
        draining = cluster.start("drain", "n1")
        assert draining.stderr is not None
        said = [draining.stderr.readline(), draining.stderr.readline()]
        assert said[1] == "n1: going offline; waiting for running calls\n", said
        until(lambda: client.send(Do("x")).code is ErrorCode.UNAVAILABLE, "the first worker refuses calls")
        second.resume()
        # The worker that was stopped may be the one that writes the record.
        until(lambda: cluster.json("nodes")["nodes"][0]["status"] == "DRAINING", "the record says so")
        # Both have seen the wish: whichever is asked, the node is not idle.
        asked = set()
        with cluster.operator() as operator:
            for _ in range(50):
                told = operator._probe.ask("n1", server.url, 20.0).description
                asked.add((told["status"], told["idle"]))
        assert asked == {("DRAINING", False)}
        assert draining.poll() is None
        assert held.finish()[0] == 0
        _, err = draining.communicate(timeout=60)
        assert (draining.returncode, "drained after" in err) == (0, True), err


def _pair(found: list[Any]) -> list[Any] | None:
    return found if len(found) == 2 else None


@pytest.mark.slow
def test_a_drained_node_is_left_alone_while_it_lives_and_serves_again_when_restarted(
    cluster: Cluster, client: ClusterMediator
) -> None:
    port = free_port()
    with cluster.node("n2"):
        with cluster.node("n1", port=port) as server:
            wait_for(client, "n1", "n2")
            before = client.nodes()[0].incarnation
            assert {client.send(Ask("x")).node_id for _ in range(4)} == {"n1", "n2"}

            code, out, err = cluster.run("drain", "n1", "--json")
            assert (code, '"end": "idle"' in out) == (0, True), err
            assert server.popen.poll() is None
            assert {client.send(Do("x")).node_id for _ in range(20)} == {"n2"}
            assert {len(client.send(Do("x")).attempts) for _ in range(5)} == {1}
            code, out, _ = cluster.run("explain", "ops.Do")
            assert (code, "it is going offline" in out) == (0, True)
            code, _, err = cluster.run("call", "ops.Do", '{"text": "x"}', "--node", "n1")
            assert (code, "n1 cannot take ops.Do: it is going offline" in err) == (3, True)
            # Once more is no harm: a hook may be run twice.
            assert cluster.run("drain", "n1")[0] == 0
        with cluster.node("n1", port=port):
            wait_for(client, "n1", "n2")
            assert client.nodes()[0].incarnation != before
            assert {client.send(Do("x")).node_id for _ in range(4)} == {"n1", "n2"}


@pytest.mark.slow
def test_a_drain_that_is_not_over_in_time_fails_and_one_of_a_node_that_goes_does_not(
    cluster: Cluster, tmp_path: Path
) -> None:
    with cluster.node("n1") as server:
        cluster.wait_for("n1")
        held = Held(cluster, tmp_path / "held")
        code, out, err = cluster.run("drain", "n1", "--timeout", "2")
        assert (code, out) == (1, "")
        assert "not drained after" in err
        draining = cluster.start("drain", "n1")
        assert draining.stderr is not None
        assert [draining.stderr.readline() for _ in range(2)][1].endswith("waiting for running calls\n")
        server.signal(signal.SIGTERM)
        held.finish()
        draining.communicate(timeout=60)
        assert draining.returncode == 0
    code, _, err = cluster.run("drain", "n1")
    assert code == 2
    assert err.startswith("catga-sync: NODE: no node 'n1' in the SQLite file ")
    assert err.endswith("(cluster_name 'ops'); there is none\n")


# -- rolling restart --------------------------------------------------------------------------------------------------


class Driver:
    """Threads that send queries and plain requests by turns, each with a pause of so many seconds in between."""

    def __init__(self, client: ClusterMediator, pause: float, threads: int = 8) -> None:
        self._client = client
        self._pause = pause
        self._enough = threading.Event()
        self._numbers = itertools.count()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        self.failures: list[CatgaResult[Any]] = []
        self.served: Counter[str | None] = Counter()

    @property
    def calls(self) -> int:
        return sum(self.served.values())

    def _run(self) -> None:
        while not self._enough.wait(self._pause):
            n = next(self._numbers)
            result = self._client.send((Do if n % 2 else Ask)(str(n)))
            self.served[result.node_id] += 1
            if not result.is_success or result.value is None or result.value.text != str(n):
                self.failures.append(result)

    def __enter__(self) -> Driver:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()


def _roll(
    cluster: Cluster,
    client: ClusterMediator,
    *options: str,
    names: tuple[str, ...],
    rounds: int,
    calls: int,
    pause: float,
) -> None:
    ports = {name: free_port() for name in names}
    with contextlib.ExitStack() as stack:
        running: dict[str, contextlib.ExitStack] = {}

        def start(name: str) -> Process:
            running[name] = stack.enter_context(contextlib.ExitStack())
            return running[name].enter_context(cluster.node(name, *options, port=ports[name]))

        servers = {name: start(name) for name in names}
        wait_for(client, *names)
        runs = {each.node_id: {each.incarnation} for each in client.nodes()}
        with Driver(client, pause) as driver:
            for _ in range(rounds):
                for name in names:
                    code, _, err = cluster.run("drain", name)
                    assert code == 0, err
                    servers[name].signal(signal.SIGTERM)
                    servers[name].popen.wait(60)
                    running[name].close()
                    servers[name] = start(name)
                    wait_for(client, *names)
                    served = driver.served[name]
                    until(lambda name=name, served=served: driver.served[name] > served, f"{name} serves again")
                    for each in client.nodes():
                        runs[each.node_id].add(each.incarnation)
            until(lambda: driver.calls >= calls, f"{calls} calls", 120)
        print(f"{driver.calls} calls: {dict(driver.served)}")
        assert driver.failures == []
        assert {name: len(seen) for name, seen in runs.items()} == dict.fromkeys(names, rounds + 1)


@pytest.mark.slow
def test_a_rolling_restart_loses_no_call(cluster: Cluster, client: ClusterMediator) -> None:
    # With pauses: without any the callers take the time in which the nodes would start.
    _roll(cluster, client, *HOOKS, names=("n1", "n2"), rounds=1, calls=400, pause=0.08)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.xdist_group("soak")
@pytest.mark.parametrize("options", [(), HOOKS, ("-w", "2", *HOOKS)], ids=["bare", "hooks", "two workers"])
def test_two_rolling_restarts_lose_none_of_12000_calls(
    cluster: Cluster, client: ClusterMediator, options: tuple[str, ...]
) -> None:
    _roll(cluster, client, *options, names=("n1", "n2", "n3"), rounds=2, calls=12_000, pause=0.0)
