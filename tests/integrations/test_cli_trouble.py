"""What the command tells of nodes that are not visible: for each the URL asked, what came back, and the cure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flask import Flask, abort

from catga_sync.cli.main import main
from tests.integrations.visible import app_of, node
from tests.processes import free_port, until
from tests.unit.serving import serving_app

SECRET = "the secret of this cluster, which is long"


class Shell:
    """The command in this process, in a cluster of its own."""

    def __init__(self, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = f"sqlite:///{file}"
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("CATGA_DISCOVERY", self.url)
        monkeypatch.setattr("catga_sync.cli.client.PROBE_TIMEOUT", 20.0)  # a busy node is not a silent one

    def run(self, *arguments: str) -> tuple[int, str, str]:
        self._capsys.readouterr()
        code = main(arguments)
        return code, *self._capsys.readouterr()

    def set(self, name: str, value: str) -> None:
        self._monkeypatch.setenv(name, value)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path / "nodes.sqlite3", capsys, monkeypatch)


def wall(app: Flask) -> None:
    app.before_request(lambda: abort(401))


def wait_for_node_1(shell: Shell, *arguments: str) -> None:
    until(lambda: "node-1" in shell.run("nodes", *arguments)[1], "the node is visible")


def test_every_node_of_a_list_that_does_not_describe_itself_is_told_with_the_reason(shell: Shell) -> None:
    walled, bare, closed = free_port(), free_port(), free_port()
    urls = {"walled": walled, "bare": bare, "closed": closed}
    shell.set("CATGA_DISCOVERY", "static")
    shell.set("CATGA_PEERS", json.dumps({name: f"http://127.0.0.1:{port}" for name, port in urls.items()}))
    with (
        node(f"http://127.0.0.1:{walled}", "walled") as mediator,
        serving_app(app_of(mediator, wall), walled),
        serving_app(Flask("bare"), bare),
    ):
        code, out, err = shell.run("nodes")
        lines = dict(line.split(": ", 1) for line in err.splitlines() if line[:6] in ("walled", "bare: ", "closed"))
        assert (code, len(out.splitlines())) == (0, 4)
        assert lines["walled"].startswith(f"GET http://127.0.0.1:{walled}/catga/cluster/node: HTTP status 401; let all")
        assert lines["bare"].startswith(f"GET http://127.0.0.1:{bare}/catga/cluster/node: HTTP status 404; ")
        assert lines["closed"].startswith(f"GET http://127.0.0.1:{closed}/catga/cluster/node: Connection refused; ")
        code, out, err = shell.run("explain", "shop.Buy")
        assert f"x closed                   GET http://127.0.0.1:{closed}/catga/cluster/node: Connection refused" in out
        assert f"walled: GET http://127.0.0.1:{walled}/catga/cluster/node: HTTP status 401" in err


def test_an_address_that_is_none_of_the_nodes_is_told_with_the_reason(shell: Shell) -> None:
    walled, closed = free_port(), free_port()
    with (
        node(f"http://127.0.0.1:{walled}", discovery=shell.url) as mediator,
        serving_app(app_of(mediator, wall), walled),
    ):
        code, out, err = shell.run("nodes", "--endpoint", f"http://127.0.0.1:{walled}")
        assert (code, out) == (1, "")
        assert f"?: GET http://127.0.0.1:{walled}/catga/cluster/node: HTTP status 401; let all paths" in err
        code, _, err = shell.run("nodes", "--endpoint", f"node-1=http://127.0.0.1:{closed}")
        assert code == 1
        assert "node-1: GET http://127.0.0.1" in err
        assert "Connection refused; nothing listens there: give the endpoint at which this app is served" in err
        code, out, _ = shell.run("nodes", "--json", "--endpoint", f"http://127.0.0.1:{walled}")
        assert "HTTP status 401" in json.loads(out)["asked"][0]["trouble"]


def test_a_node_of_another_cluster_is_told_to_be_none_of_this_one(shell: Shell) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        node(url, discovery=shell.url, cluster_name="other", insecure=True) as mediator,
        serving_app(app_of(mediator), port),
    ):
        shell.set("CATGA_INSECURE", "true")
        wait_for_node_1(shell, "--cluster", "other")
        code, _, err = shell.run("nodes", "--endpoint", url)
        assert code == 1
        assert "node-1: it responds, and is not among the nodes: has it the discovery and cluster_name of this" in err
        code, _, err = shell.run("nodes", "--endpoint", f"node-2={url}", "--cluster", "other")
        assert code == 1
        assert f"node-2: GET {url}/catga/cluster/node: HTTP status 200 from node node-1; that node listens there" in err
        code, out, err = shell.run("nodes", "--endpoint", url, "--cluster", "other")
        assert (code, err) == (0, "")
        assert "node-1" in out


def test_where_calls_are_signed_the_address_of_a_node_needs_its_id(shell: Shell) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    shell.set("CATGA_SECRET", SECRET)
    with (
        node(url, discovery=shell.url, secret=SECRET) as mediator,
        serving_app(app_of(mediator), port),
    ):
        wait_for_node_1(shell)
        code, _, err = shell.run("nodes", "--endpoint", url)
        assert code == 1
        assert "HTTP status 401 from node node-1" in err
        assert "the id by which they are known" in err
        assert shell.run("nodes", "--endpoint", f"node-1={url}")[0] == 0


def test_a_node_that_answers_here_and_not_at_its_own_endpoint_says_so_itself(shell: Shell) -> None:
    port, wrong = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        node(f"http://127.0.0.1:{wrong}", discovery=shell.url) as mediator,
        serving_app(app_of(mediator), port),
    ):
        until(lambda: mediator.trouble, "the node knows that it is not visible")
        code, _, err = shell.run("nodes", "--endpoint", f"node-1={url}")
    assert code == 1
    assert (
        f"node-1: it is not visible to other nodes: GET http://127.0.0.1:{wrong}/catga/cluster/node: Connection" in err
    )


@pytest.mark.parametrize("given", ["127.0.0.1:5001", "node 1=http://127.0.0.1:5001", "http://127.0.0.1:5001/x", "="])
def test_an_address_that_is_none_is_told_with_what_to_write(shell: Shell, given: str) -> None:
    code, out, err = shell.run("nodes", "--endpoint", given)
    assert (code, out) == (2, "")
    assert "--endpoint: give [ID=]URL, as in node-1=http://127.0.0.1:5001" in err
