"""A test reaches no server that its author has left running, unless it was told where that is."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask

from catga_sync import ClusterMediator, ClusterNode, Mediator, create_cluster
from catga_sync.discovery import create, create_discovery
from catga_sync.errors import Delivery, ErrorCode
from catga_sync.integrations.flask import CatgaCluster, cluster_blueprint
from catga_sync.nodes import NodeRecord
from tests.contracts.receiver import GetUser


@pytest.fixture
def running() -> Iterator[str]:
    """The name of a cluster whose default file has a node that listens: the developer's server."""
    name = f"test-{uuid.uuid4().hex}"
    store: Any = create_discovery(cluster_name=name)
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        node = ClusterNode("developer", endpoint, handles=frozenset({"users.Get"}), incarnation="i")
        store.shared.register(NodeRecord(node, 1), 600.0)
        yield name
    store.shared.path.unlink()


@pytest.fixture
def around() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def without_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is under another test runner, or none."""
    monkeypatch.setattr(create, "pytest_runs_here", lambda: False)


def names(mediator: ClusterMediator) -> list[str]:
    return [node.node_id for node in mediator.nodes()]


def made(around: ExitStack, name: str, **options: Any) -> ClusterMediator:
    return around.enter_context(create_cluster(Mediator(), environ={}, cluster_name=name, **options))


@pytest.mark.usefixtures("without_pytest")
def test_outside_of_test_runs_the_running_server_is_found(running: str, around: ExitStack) -> None:
    app = Flask(__name__)
    mediator = made(around, running)
    app.register_blueprint(cluster_blueprint(mediator))
    assert names(mediator) == ["developer"]


@pytest.mark.usefixtures("without_pytest")
@pytest.mark.parametrize("mediator_of", ["a module", "the factory"])
def test_an_app_factory_under_testing_is_alone_with_any_runner_whoever_makes_the_mediator(
    running: str, around: ExitStack, mediator_of: str
) -> None:
    app = Flask(__name__)
    app.config.update(CATGA_CLUSTER_NAME=running, TESTING=mediator_of == "the factory")
    if mediator_of == "a module":
        mediator = create_cluster(Mediator(), environ={}, cluster_name=running)
        app.config["TESTING"] = True
        app.register_blueprint(cluster_blueprint(mediator))
    else:
        mediator = CatgaCluster().init_app(app)
    around.enter_context(mediator)
    assert names(mediator) == []
    result = mediator.send(GetUser("7"), timeout=20.0)
    assert (result.code, result.delivery) == (ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)


def test_an_app_of_a_module_whose_testing_is_set_by_a_fixture_is_alone_under_pytest(
    running: str, around: ExitStack
) -> None:
    app = Flask(__name__)
    mediator = made(around, running)
    app.register_blueprint(cluster_blueprint(mediator))
    app.testing = True
    assert names(mediator) == []


def test_without_any_app_it_is_pytest_that_tells(running: str, around: ExitStack) -> None:
    mediator = made(around, running)
    assert mediator.send(GetUser("7"), timeout=20.0).delivery is Delivery.NOT_EXECUTED
    assert names(mediator) == []


def test_the_mediators_of_a_test_run_see_each_other(running: str) -> None:
    first, second = (create_discovery(cluster_name=running) for _ in range(2))
    first.register(NodeRecord(ClusterNode("a", "http://localhost:1", incarnation="i"), 1), 60.0)
    assert [each.node.node_id for each in second.nodes()] == ["a"]
    first.deregister("a", "i")


def test_a_store_that_is_given_is_used_in_tests_too(running: str, around: ExitStack) -> None:
    store: Any = create_discovery(cluster_name=running)
    mediator = made(around, running, discovery=f"sqlite:///{store.shared.path}")
    assert names(mediator) == ["developer"]


def test_a_process_that_a_test_has_started_is_none_that_is_tested(running: str) -> None:
    script = (
        "import json, sys; from catga_sync import Mediator, create_cluster\n"
        "with create_cluster(Mediator(), cluster_name=sys.argv[1], environ={}) as mediator:\n"
        "    print(json.dumps([node.node_id for node in mediator.nodes()]))"
    )
    done = subprocess.run([sys.executable, "-c", script, running], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == ["developer"], done.stderr
