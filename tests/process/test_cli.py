"""The command line against real gunicorn nodes: it sees them, explains, calls without the classes, and is no node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import require_module
from tests.process.operators import HOOKS, Cluster

require_module("gunicorn")

pytestmark = pytest.mark.process

_SECRET = "a secret of the tests, of 32 bytes and more"


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "nodes.sqlite3")


@pytest.fixture(params=[None, _SECRET], ids=["unsigned", "signed"])
def any_cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "nodes.sqlite3", request.param)


@pytest.mark.slow
def test_an_operator_sees_and_calls_a_cluster_of_which_he_has_no_class(any_cluster: Cluster) -> None:
    cluster = any_cluster
    with cluster.node("n1", "-w", "2", *HOOKS) as n1, cluster.node("n2") as n2:
        cluster.wait_for("n1", "n2")

        code, out, err = cluster.run("nodes")
        assert (code, err) == (0, "")
        head, *rows = [line.split() for line in out.splitlines()]
        assert head == ["NODE", "ENDPOINT", "STATUS", "LOAD", "RUN", "HEARTBEAT", "TYPES"]
        assert [row[:3] for row in rows] == [["n1", n1.url, "ONLINE"], ["n2", n2.url, "ONLINE"]]
        assert [row[-1] for row in rows] == ["4", "4"]

        code, out, err = cluster.run("types")
        assert (code, err) == (0, "")
        assert ["ops.Ask", "ops.Answer", "n1", "n2"] in [line.split() for line in out.splitlines()]

        explained = cluster.json("explain", "ops.Ask")
        assert [each["id"] for each in explained["candidates"]] == ["n1", "n2"]
        assert (explained["response"], explained["excluded"]) == ("ops.Answer", [])

        # Processes of their own have none of the classes, and their own idea of what text is.
        code, out, err = cluster.run_process("call", "ops.Ask", '{"text": "grüß"}')
        assert (code, err, json.loads(out)["text"]) == (0, "", "grüß")
        code, out, err = cluster.run_process("call", "ops.Do", "-", "--node", "n2", "--json", stdin='{"text": "x"}')
        result = json.loads(out)
        assert (code, result["nodeId"], result["delivery"], result["value"]["text"]) == (0, "n2", "EXECUTED", "x")
        # It has looked, and left nothing behind.
        assert [each["id"] for each in cluster.json("nodes")["nodes"]] == ["n1", "n2"]


def test_a_failed_call_says_why_and_whether_it_ran(cluster: Cluster) -> None:
    with cluster.node("n1"):
        cluster.wait_for("n1")
        code, out, err = cluster.run("call", "ops.Fail")
        # An escape sequence in a node's text does not reach the terminal.
        assert (code, out, err) == (1, "", "not today ?[31m (code CLOSED, delivery EXECUTED)\n")
        assert cluster.json("call", "ops.Fail")["code"] == "CLOSED"

        code, out, err = cluster.run("call", "ops.Ask", '{"wrong": 1}')
        assert (code, out) == (1, "")
        assert "INVALID_ARGUMENT, delivery NOT_EXECUTED" in err

        code, out, err = cluster.run("call", "ops.Aks")
        assert (code, out) == (3, "")
        assert err == (
            "no node handles ops.Aks (did you mean ops.Ask at n1?); register a handler with @mediator.handler on n1 "
            "(code UNIMPLEMENTED, delivery NOT_EXECUTED)\n"
        )
        code, out, err = cluster.run("explain", "ops.Nothing")
        assert (code, out.splitlines()[0]) == (3, "ops.Nothing: 0 of 1 nodes can handle it")
        assert "n1" in out
        assert "it does not handle this type" in out

        code, out, err = cluster.run("call", "ops.Ask", "{}", "--node", "n7")
        assert (code, out, err) == (2, "", f"catga-sync: --node: no node 'n7' in {cluster.place}; there are n1\n")


def test_without_the_secret_of_the_nodes_it_says_so_and_gets_nothing(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "nodes.sqlite3", _SECRET)
    stranger = {name: value for name, value in cluster.environment.items() if name != "CATGA_SECRET"}
    with cluster.node("n1"):
        cluster.wait_for("n1")
        for env in (stranger, {**stranger, "CATGA_SECRET": "another secret of 32 bytes and more"}):
            code, out, err = cluster.run("call", "ops.Ask", '{"text": "x"}', env=env)
            assert (code, out) == (2, "")
            assert "CATGA_SECRET" in err
            code, out, err = cluster.run("call", "ops.Ask", '{"text": "x"}', "--response", "ops.Answer", env=env)
            assert (code, out) == (1, "")
            assert "UNAUTHENTICATED" in err
            code, out, err = cluster.run("drain", "n1", env=env)
            assert (code, out) == (2, "")
            assert "CATGA_SECRET" in err
        assert [each["status"] for each in cluster.json("nodes")["nodes"]] == ["ONLINE"]


def test_an_application_lends_its_types(cluster: Cluster) -> None:
    with cluster.node("n1"):
        cluster.wait_for("n1")
        _, out, err = cluster.run("explain", "ops.Ask", "--app", "tests.process.operated:local")
        assert "ops.Ask -> ops.Answer: 1 of 1 nodes can handle it" in out, err
        assert "--app" not in out
        assert cluster.json("explain", "ops.Ask", "--app", "tests.process.operated:local")["contractCompared"] is True


def test_a_node_of_a_fixed_list_is_asked_itself(cluster: Cluster) -> None:
    with cluster.node("n1") as server:
        cluster.wait_for("n1")
        peers = {"n1": server.url, "n2": "http://127.0.0.1:9"}
        env = {**cluster.environment, "CATGA_DISCOVERY": "static", "CATGA_PEERS": json.dumps(peers)}
        code, out, _ = cluster.run("nodes", "--json", env=env)
        first, second = json.loads(out)["nodes"]
        assert (code, first["status"], len(first["types"])) == (0, "ONLINE", 4)
        assert (second["status"], second["types"]) == ("OFFLINE", None)
        code, out, _ = cluster.run("call", "ops.Ask", '{"text": "x"}', env=env)
        assert (code, json.loads(out)["text"]) == (0, "x")
