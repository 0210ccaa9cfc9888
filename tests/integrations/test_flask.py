"""The Flask extension: what it takes, and whose mediator it makes."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, current_app, g

from catga_sync import ClusterMediator, Event, Mediator, NodeStatus, Query, create_cluster
from catga_sync.errors import ConfigurationError, RegistrationError
from catga_sync.integrations import wsgi
from catga_sync.integrations.flask import CatgaCluster, cluster_blueprint, mediator
from catga_sync.wire.routes import DRAIN_PATH, NODE_PATH
from tests.processes import free_port, until
from tests.unit.serving import serving_app


@dataclass(frozen=True)
class NameOfApp(Query[str]):
    """Returns the name of the current app, and how often it was asked within the same context."""


@dataclass(frozen=True)
class Happened(Event):
    what: str


def name_of_app(query: NameOfApp) -> str:
    g.asked = g.get("asked", 0) + 1
    return f"{current_app.name} {g.asked}"


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


@contextlib.contextmanager
def node_of(app: Flask) -> Iterator[ClusterMediator]:
    """A node behind the hooks of an app."""
    options: dict[str, Any] = {"discovery": "memory://flask", "insecure": True, "environ": {}}
    with create_cluster(Mediator(), node_id="node-1", endpoint="http://127.0.0.1:1", **options) as node:
        app.register_blueprint(cluster_blueprint(node))
        yield node


@pytest.mark.parametrize("replaced", [False, True], ids=["as it is", "replaced by a hook"])
def test_a_response_of_the_blueprint_is_watched_while_it_is_written_and_no_longer(replaced: bool) -> None:
    def watched() -> list[object]:
        return [each.sock for each in wsgi._cut_off._writing.values()]

    app = Flask(__name__)
    later: list[bool] = []

    @app.after_request
    def after(response: Response) -> Response:
        response.call_on_close(lambda: later.append(ours in watched()))
        return Response("no", 418) if replaced else response

    ours, theirs = socket.socketpair()
    with ours, theirs, node_of(app):
        with app.test_client().get(NODE_PATH, environ_base={"gunicorn.socket": ours}) as answer:
            assert answer.status_code == (418 if replaced else 200)
            assert (ours in watched()) is not replaced
        assert ours not in watched()
    assert later == ([] if replaced else [False])  # what the app does at the end is none of the writing


def _with_text(response: Response) -> None:
    response.status = "200 Fine"


def _with_class(response: Response) -> None:
    pieces = {"get_app_iter": lambda self, environ: [b"changed"]}
    response.__class__ = type("Changed", (type(response),), pieces)


_CHANGES: dict[str, tuple[Callable[[Response], object], tuple[str, str | None, bytes]]] = {
    "a header": (lambda response: response.headers.set("X-A", "1"), ("200 OK", "1", b"{")),
    "the status": (lambda response: setattr(response, "status_code", 503), ("503 SERVICE UNAVAILABLE", None, b"{")),
    "the text of the status": (_with_text, ("200 Fine", None, b"{")),
    "the body": (lambda response: response.set_data("changed"), ("200 OK", None, b"changed")),
    "a piece of the body": (lambda response: response.response.insert(0, b"# "), ("200 OK", None, b"# {")),
    "the pieces of the body": (
        lambda response: setattr(response, "response", iter(["a", "b"])),
        ("200 OK", None, b"ab"),
    ),
    "how its pieces are made": (
        lambda response: setattr(response, "get_app_iter", lambda environ: [b"changed"]),
        ("200 OK", None, b"changed"),
    ),
    "how it is encoded": (
        lambda response: setattr(response, "iter_encoded", lambda: iter([b"changed"])),
        ("200 OK", None, b"changed"),
    ),
    "its class": (_with_class, ("200 OK", None, b"changed")),
}


@pytest.mark.parametrize("change", _CHANGES)
def test_what_a_hook_changes_of_a_response_is_what_travels(change: str) -> None:
    make, (status, header, body) = _CHANGES[change]
    app = Flask(__name__)
    app.after_request(lambda response: [make(response), response][1])
    with node_of(app), app.test_client().get(NODE_PATH) as answer:
        assert (answer.status, answer.headers.get("X-A")) == (status, header)
        assert answer.data.startswith(body)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_response_that_no_hook_changes_is_copied_by_nobody(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app, seen = Flask(__name__), []
    app.after_request(lambda response: seen.append(response.get_data()) or response)
    monkeypatch.setattr(Response, "get_wsgi_response", lambda *_: pytest.fail("Werkzeug copies it"))
    with node_of(app), app.test_client().open(NODE_PATH, method=method) as answer:
        assert answer.headers["Content-Length"] == str(len(seen[0]))
        assert answer.data == (b"" if method == "HEAD" else seen[0])


def test_each_of_two_nodes_in_one_app_has_its_own_guard() -> None:
    app = Flask(__name__, subdomain_matching=True)
    app.config["SERVER_NAME"] = "127.0.0.1:80"
    options: dict[str, Any] = {"discovery": "memory://two", "insecure": True, "environ": {}}
    with (
        create_cluster(Mediator(), node_id="open", endpoint="http://10.0.0.1:1", **options) as everybodys,
        create_cluster(Mediator(), node_id="closed", endpoint="http://127.0.0.1:1", **options) as ours,
    ):
        app.register_blueprint(cluster_blueprint(everybodys, "everybodys"), subdomain="everybodys")
        app.register_blueprint(cluster_blueprint(ours, "ours"))
        remote = {"REMOTE_ADDR": "203.0.113.9"}
        with app.test_client().post(DRAIN_PATH, json={}, environ_base=remote) as answer:
            assert answer.status_code == 403
        assert ours.node.status is NodeStatus.ONLINE


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


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("CATGA_TIMOUT", 5, "no such option; did you mean 'CATGA_REQUEST_TIMEOUT' or 'CATGA_HEARTBEAT_TIMEOUT'?"),
        ("CATGA_NODEID", "a", "no such option; did you mean 'CATGA_NODE_ID'?"),
        ("CATGA_REQUEST_TIMEOUT", "5", "give seconds above 0, not '5'"),
        ("CATGA_ENDPOINT", "localhost:5003", "give http://host:port"),
        ("CATGA_SECRET", "short", "a key needs 32 bytes"),
        ("CATGA_ROUTER", "randon", "'randon' is not one of"),
        ("CATGA_ROUTER", "randon", "did you mean 'random'?"),
        ("CATGA_DISCOVERY", "nowhere", "'nowhere'"),
        ("CATGA_IDEMPOTENCY", "nowhere", "'nowhere'"),
        ("CATGA_HOOKS", [7], "give objects with on_send"),
    ],
)
def test_an_error_names_the_key_of_the_config(key: str, value: Any, told: str) -> None:
    app = Flask(__name__)
    app.config[key] = value
    with pytest.raises((ConfigurationError, RegistrationError)) as caught:
        CatgaCluster(app)
    assert str(caught.value).startswith(f"{key}: ")
    assert told in str(caught.value)


def test_an_error_names_the_entry_of_a_value_that_has_some(app: Flask) -> None:
    app.config["CATGA_PEERS"] = {"b": "nowhere"}
    del app.config["CATGA_DISCOVERY"]
    with pytest.raises(ConfigurationError, match=r"^CATGA_PEERS\['b'\]: give"):
        CatgaCluster(app)


def test_an_error_names_the_variable_of_the_environment_or_the_argument(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match=r"^node: no such option; did you mean 'node_id'\?$"):
        CatgaCluster(app, node="a")
    app.config["CATGA_MAX_RETRIES"] = "many"
    with pytest.raises(ConfigurationError, match=r"^max_retries: give .* not -1$"):
        CatgaCluster(app, max_retries=-1)
    del app.config["CATGA_MAX_RETRIES"]
    monkeypatch.setenv("CATGA_MAX_RETRIES", "few")
    with pytest.raises(ConfigurationError, match=r"^CATGA_MAX_RETRIES: 'few' cannot be read"):
        CatgaCluster(app)


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


# -- handlers ----------------------------------------------------------------------------------------------------------


def made_by(cluster: CatgaCluster, name: str, **options: Any) -> Flask:
    app = Flask(name)
    app.config.update(CATGA_NODE_ID=name, CATGA_DISCOVERY=f"memory://{uuid.uuid4().hex}")
    app.config.update({f"CATGA_{key.upper()}": value for key, value in options.items()})
    cluster.init_app(app)
    return app


def mediator_of(app: Flask) -> ClusterMediator:
    made: ClusterMediator = app.extensions["catga_sync"]
    return made


def test_a_handler_may_be_registered_at_the_extension_before_there_is_an_app() -> None:
    cluster, seen = CatgaCluster(), []

    @cluster.handler
    def handle(query: NameOfApp) -> str:
        return current_app.name

    @cluster.subscriber
    def notice(event: Happened) -> None:
        seen.append((current_app.name, event.what))

    app = made_by(cluster, "shop")
    with mediator_of(app) as made:
        assert made.send(NameOfApp()).unwrap() == "shop"
        assert made.publish(Happened("it"))
    assert seen == [("shop", "it")]


def test_apps_of_one_process_share_handlers_and_each_runs_them_in_its_own_context() -> None:
    cluster = CatgaCluster()
    cluster.handler(name_of_app)
    one, two = made_by(cluster, "one"), made_by(cluster, "two")
    with mediator_of(one), mediator_of(two):
        with one.app_context():
            assert mediator.send(NameOfApp()).unwrap() == "one 1"
            assert mediator_of(two).send(NameOfApp()).unwrap() == "two 1"
            assert mediator.send(NameOfApp()).unwrap() == "one 2"
        with two.app_context():
            assert mediator.send(NameOfApp()).unwrap() == "two 1"


@pytest.mark.parametrize(("isolated", "told"), [(False, ["web 1", "web 2"]), (True, ["web 1", "web 1"])])
@pytest.mark.parametrize("as_blueprint", [False, True])
def test_a_call_of_a_view_shares_its_context_unless_calls_are_isolated(
    isolated: bool, told: list[str], as_blueprint: bool
) -> None:
    local = Mediator()
    local.handler(name_of_app)
    app = Flask("web")
    if as_blueprint:
        made = create_cluster(local, node_id="web", discovery="memory://isolated")
        app.register_blueprint(cluster_blueprint(made, isolated=isolated))
    else:
        CatgaCluster(local, app, isolated=isolated, node_id="web", discovery="memory://isolated")
        made = mediator_of(app)

    @app.get("/")
    def view() -> list[str]:
        return [mediator.send(NameOfApp()).unwrap() for _ in range(2)]

    with made:
        assert app.test_client().get("/").json == told


# -- what the app has in front of its views ----------------------------------------------------------------------------


def test_no_hook_of_the_app_sees_a_call_of_another_node(app: Flask) -> None:
    app.config.update(CATGA_INSECURE=True, MAX_CONTENT_LENGTH=1, TRUSTED_HOSTS=["example.com"])
    seen: list[str] = []
    app.before_request(lambda: seen.append("before") or ("no", 403))
    CatgaCluster(app)
    app.after_request(lambda response: seen.append("after") or response)
    app.teardown_request(lambda _: seen.append("teardown"))
    with app.test_client().get(NODE_PATH) as answer:
        assert (answer.status_code, seen) == (200, [])
    with app.test_client().get("/") as answer:
        assert (answer.status_code, seen) == (403, ["before", "after", "teardown"])


def open_files() -> Counter[str]:
    names: Counter[str] = Counter()
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            names[str(each.readlink())] += 1
    return names


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_fifty_factories_leave_no_thread_and_no_file() -> None:
    cluster = CatgaCluster()
    cluster.handler(name_of_app)

    def make_and_use() -> None:
        app = made_by(cluster, "shop", endpoint=f"http://127.0.0.1:{port}")
        app.testing = True
        with app.app_context():
            assert mediator.send(NameOfApp())

    def left() -> list[str]:
        gc.collect()  # again and again: an app that its thread looks after at this moment is still in use
        return [each.name for each in threading.enumerate() if each.name == "catga-cluster-shop"]

    port = free_port()
    make_and_use()
    until(lambda: not left(), "the thread of the first has ended")
    files = open_files()
    for _ in range(50):
        make_and_use()
    until(lambda: not left(), "their threads have ended")
    until(lambda: not (open_files() - files), lambda: f"these files are closed: {dict(open_files() - files)}")


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def operated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    # Its files are new, and it is one process: nobody is waited for.
    monkeypatch.setattr("catga_sync.cluster.group_files._SETTLED", 0.1)
    port = free_port()
    cluster = CatgaCluster()
    cluster.handler(name_of_app)
    app = made_by(
        cluster, "shop", discovery=f"sqlite:///{tmp_path / 'nodes.sqlite3'}", endpoint=f"http://127.0.0.1:{port}"
    )
    with mediator_of(app), serving_app(app, port):
        # The node itself counts as visible a moment before it is in the store.
        nodes = app.test_cli_runner().invoke
        until(lambda: nodes(args=["catga", "nodes"]).exit_code == 0, "the node is in the store")
        yield app


def test_the_command_of_flask_looks_at_the_cluster_of_the_app(operated: Flask) -> None:
    def run(*arguments: str) -> Any:
        return operated.test_cli_runner().invoke(args=["catga", *arguments])

    listed = run("nodes", "--json")
    assert listed.exit_code == 0, listed.output
    assert [each["id"] for each in json.loads(listed.stdout)["nodes"]] == ["shop"]
    name = f"{__name__}.NameOfApp"
    assert name in run("types").stdout
    assert run("explain", name, "{}").exit_code == 0
    called = run("call", name, "{}")
    assert (called.exit_code, "shop 1" in called.stdout) == (0, True), called.output
    refused = run("call", "no.Such", "{}")
    assert (refused.exit_code, "no.Such" in refused.output) == (3, True)
    assert run("nodes", "--no-such").exit_code == 2
    assert "drain" in run("--help").output
    assert "COMMAND" in run().output
    assert run("drain", "shop", "--timeout", "30").exit_code == 0
