"""The Flask extension: what it takes, and whose mediator it makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from catga_sync import Mediator
from catga_sync.errors import ConfigurationError
from catga_sync.integrations.flask import CatgaCluster, cluster_blueprint, mediator
from catga_sync.wire.routes import NODE_PATH


@pytest.fixture
def app() -> Iterator[Flask]:
    made = Flask(__name__)
    made.config.update(CATGA_NODE_ID="node-1", CATGA_DISCOVERY="memory://flask")
    yield made
    if "catga_sync" in made.extensions:
        made.extensions["catga_sync"].close()


def test_an_extension_may_be_given_the_app_and_nothing_else(app: Flask) -> None:
    app.config["CATGA_INSECURE"] = True
    CatgaCluster(app)
    with app.app_context():
        assert mediator.node.node_id == "node-1"
    with app.test_client().get(NODE_PATH) as answer:
        assert answer.json["nodeId"] == "node-1"


def test_the_app_and_the_local_mediator_may_be_given_both(app: Flask) -> None:
    local = Mediator()
    assert CatgaCluster(local, app, node_id="node-2").local is local
    with app.app_context():
        assert mediator.node.node_id == "node-2"


def test_options_go_with_the_app_alone_as_well(app: Flask) -> None:
    CatgaCluster(app, node_id="node-2")
    with app.app_context():
        assert mediator.node.node_id == "node-2"


def test_the_app_may_come_later(app: Flask) -> None:
    cluster = CatgaCluster()
    assert cluster.init_app(app) is app.extensions["catga_sync"]
    with pytest.raises(ConfigurationError, match=r"^app: it has a cluster mediator already"):
        cluster.init_app(app)


def test_options_are_given_or_of_the_app_s_config_or_of_the_environment(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("NODE_ID", "env"), ("MAX_RETRIES", "7"), ("CLUSTER_NAME", "env"), ("PEERS", "{}")):
        monkeypatch.setenv(f"CATGA_{name}", text)
    options = CatgaCluster(cluster_name="given").init_app(app).options
    assert (options.node_id, options.max_retries, options.cluster_name) == ("node-1", 7, "given")
    assert (options.discovery, options.peers) == ("memory://flask", None)


def test_service_links_in_the_config_or_the_environment_stop_no_app(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CATGA_REDIS_PORT_6379_TCP_ADDR", "10.0.0.1")
    app.config["CATGA_REDIS_SERVICE_HOST"] = "10.0.0.1"
    assert CatgaCluster().init_app(app).options.node_id == "node-1"


@pytest.mark.parametrize("local", [7, "app", Mediator, Flask])
def test_anything_else_is_refused_at_once(local: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^local: give a Mediator, or a Flask app alone"):
        CatgaCluster(local)


def test_two_apps_are_one_too_many(app: Flask) -> None:
    with pytest.raises(ConfigurationError, match=r"^local: "):
        CatgaCluster(app, app)


@pytest.mark.parametrize("given", [None, Mediator(), "mediator", 7])
def test_a_blueprint_needs_a_node_of_a_cluster(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^mediator: give what create_cluster\(\) returns"):
        cluster_blueprint(given)
