"""Signed requests that were captured on the wire: nowhere else, and at no later run of the node, do they run again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from catga_sync import ClusterMediator, ClusterOptions
from catga_sync.cli.client import OperatorClient
from catga_sync.nodes import ClusterNode, NodeStatus
from tests.conftest import require_module
from tests.faults import ledger
from tests.faults.messages import Ask, Do
from tests.faults.nodes import Node, Nodes
from tests.faults.tap import Tap, replay, tapped
from tests.processes import until

require_module("gunicorn")

pytestmark = pytest.mark.process

SECRET = "the key of the tests of captured requests, of 32 bytes or more"
INVOKE, BATCH, DRAIN = "/catga/cluster/invoke", "/catga/cluster/batch", "/catga/cluster/drain"


def empty_folder(nodes: Nodes, name: str) -> dict[str, str]:
    """Return the environment of a node that finds nothing of what its former run has left, as in a new container."""
    folder = nodes.folder / name
    folder.mkdir()
    return {"TMPDIR": str(folder)}


def static_client(nodes: Nodes, **peers: str) -> ClusterMediator:
    # By POST: what travels over a stream is of no use on another one, see tests/process/test_streams.py.
    return nodes.client(secret=SECRET, discovery="static", peers=peers, stream="off")


def operator(cluster_name: str, **peers: str) -> OperatorClient:
    options = {"discovery": "static", "peers": peers, "cluster_name": cluster_name, "request_timeout": 15.0}
    return OperatorClient(ClusterOptions(secret=SECRET, **options))


def asked(node: Node, cluster_name: str) -> ClusterNode:
    """Return what a node says of itself to an operator."""
    with operator(cluster_name, **{node.name: node.endpoint}) as client:
        return client.nodes(ask_all=True)[0].node


def make_calls(nodes: Nodes, tap: Tap) -> list[str]:
    """Make calls of each kind over the wire; return what has run then."""
    with static_client(nodes, a=tap.endpoint) as client:
        until(lambda: client.nodes()[0].handles or None, "it describes itself")
        assert client.send(Do("alone")).is_success
        assert all(client.send_batch([Do("first"), Do("second")]))
    return [run.text for run in ledger.executions(nodes.ran)]


def restarted_with_an_empty_folder(nodes: Nodes, node: Node) -> Node:
    node.stop()
    node.start(**empty_folder(nodes, "again"))
    return node


def restarted_with_its_folder(nodes: Nodes, node: Node) -> Node:
    node.stop()
    node.start()
    return node


def at_another_port(nodes: Nodes, node: Node) -> Node:
    node.stop()
    return nodes.start("a", CATGA_SECRET=SECRET)[0]


def in_another_cluster(nodes: Nodes, node: Node) -> Node:
    return nodes.start("a", CATGA_SECRET=SECRET, CATGA_CLUSTER_NAME=f"{nodes.cluster_name}-2")[0]


def as_another_node(nodes: Nodes, node: Node) -> Node:
    return nodes.start("b", CATGA_SECRET=SECRET)[0]


# "make test" has the node that is restarted in its place, with two workers that share what they remember. "make soak"
# has all.
@pytest.mark.parametrize(
    ("elsewhere", "status", "workers"),
    [
        pytest.param(restarted_with_an_empty_folder, 421, "1", marks=pytest.mark.slow),
        (restarted_with_an_empty_folder, 421, "2"),
        pytest.param(restarted_with_its_folder, 401, "1", marks=pytest.mark.slow),
        pytest.param(restarted_with_its_folder, 401, "2", marks=pytest.mark.slow),
        pytest.param(at_another_port, 421, "1", marks=pytest.mark.slow),
        pytest.param(in_another_cluster, 401, "1", marks=pytest.mark.slow),
        pytest.param(as_another_node, 401, "1", marks=pytest.mark.slow),
    ],
)
def test_a_captured_request_runs_nowhere_else_and_at_no_later_run_of_the_node(
    nodes: Nodes, elsewhere: Callable[[Nodes, Node], Node], status: int, workers: str
) -> None:
    (node,) = nodes.start("a", options=("-w", workers), CATGA_SECRET=SECRET, **empty_folder(nodes, "first"))
    with tapped(node.port) as tap:
        ran = make_calls(nodes, tap)
        captured = [*tap.requests(INVOKE), *tap.requests(BATCH)]
    assert len(captured) >= 2
    other = elsewhere(nodes, node)
    # When it may not have joined its cluster yet, and when it has.
    assert [replay(each, other.port)[0] for each in captured] == [status] * len(captured)
    cluster = f"{nodes.cluster_name}-2" if elsewhere is in_another_cluster else nodes.cluster_name
    until(lambda: asked(other, cluster).incarnation or None, "it has joined")
    assert {replay(each, other.port)[0] for each in captured} == {401}
    assert [run.text for run in ledger.executions(nodes.ran)] == ran


@pytest.mark.slow
def test_a_captured_drain_takes_no_restarted_node_offline(nodes: Nodes) -> None:
    (node,) = nodes.start("a", CATGA_SECRET=SECRET, **empty_folder(nodes, "first"))
    with tapped(node.port) as tap, operator(nodes.cluster_name, a=tap.endpoint) as client:
        (seen,) = client.nodes()
        assert client.drain(seen.node, lambda text: None) == "idle"
        captured = tap.requests(DRAIN)
    assert captured
    node.stop()
    node.start(**empty_folder(nodes, "again"))
    assert {replay(each, node.port)[0] for each in captured} == {421}
    until(lambda: asked(node, nodes.cluster_name).incarnation or None, "it has joined")
    assert {replay(each, node.port)[0] for each in captured} == {401}
    assert asked(node, nodes.cluster_name).status is NodeStatus.ONLINE
    with static_client(nodes, a=node.endpoint) as caller:
        assert caller.send(Do("after")).is_success


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_caller_that_knows_the_former_run_of_a_node_is_served_by_the_next_one(nodes: Nodes, workers: str) -> None:
    (node,) = nodes.start("a", options=("-w", workers), CATGA_SECRET=SECRET, **empty_folder(nodes, "0"))
    sent = []
    with static_client(nodes, a=node.endpoint) as client:
        until(lambda: client.nodes()[0].handles or None, "it describes itself")
        assert client.send(Do("before")).is_success
        for run in ("1", "2"):
            node.stop()
            node.start(**empty_folder(nodes, run))
            results = [client.send(Do(f"plain-{run}-{number}")) for number in range(3)]
            results += client.send_batch([Ask(f"batch-{run}-{number}") for number in range(3)])
            assert [each for each in results if not each] == []
            assert [len(each.attempts) for each in results] == [1] * 6
            sent += results
    runs = [run.text for run in ledger.executions(nodes.ran)]
    assert len(runs) == len(set(runs)) == 1 + len(sent)


@pytest.mark.slow
def test_no_call_fails_while_signed_nodes_are_replaced_one_by_one(nodes: Nodes) -> None:
    started = nodes.start("a", "b", options=("-w", "2"), CATGA_SECRET=SECRET, **empty_folder(nodes, "0"))
    over = Event()

    def call(number: int) -> list[object]:
        failed: list[object] = []
        calls = 0
        while not over.wait(0.04):
            result = client.send(Ask(f"{number}-{calls}"))
            calls += 1
            if not result:
                failed.append(result)
        return failed

    with nodes.client(secret=SECRET, router="round-robin") as client, ThreadPoolExecutor(4) as pool:
        nodes.see(client, "a", "b")
        calling = [pool.submit(call, number) for number in range(4)]
        try:
            for node in started:
                node.stop()
                node.start(**empty_folder(nodes, f"1{node.name}"))
                nodes.see(client, "a", "b")
        finally:
            over.set()
        assert [failed for each in calling for failed in each.result()] == []
