"""The receiver, called directly, has the whole contract; the blueprint and the middleware have the adapters'."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from typing import Any, ClassVar

import pytest
from flask import Blueprint, Flask
from werkzeug.test import Client

from catga_sync.cluster.factory import create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.discovery import MemoryDiscovery
from catga_sync.errors import ConfigurationError, ErrorCode
from catga_sync.integrations.flask import cluster_blueprint
from catga_sync.integrations.wsgi import ROUTES, ClusterMiddleware
from catga_sync.mediator import Mediator
from catga_sync.receiver.receiver import RawRequest
from catga_sync.wire.envelope import ResponseEnvelope
from catga_sync.wire.routes import INVOKE_PATH, NODE_PATH
from tests.contracts.adapter import AdapterContract
from tests.contracts.receiver import Answer, Call, ReceiverContract, invocation


def environ_of(call: Call) -> dict[str, Any]:
    """Return what a server would put into the environment for this call."""
    return {
        "CONTENT_TYPE": call.content_type or "",
        "CONTENT_LENGTH": call.announced,
        "HTTP_HOST": call.host,
        "REMOTE_ADDR": call.remote_address,
        "SERVER_PROTOCOL": call.protocol,
        "wsgi.input": call.stream,
        **({"wsgi.input_terminated": True} if call.terminated else {}),
    }


def through(client: Client, call: Call) -> Answer:
    answer = client.open(
        call.path, method=call.method, headers=list(call.headers.items()), environ_overrides=environ_of(call)
    )
    with answer:
        return Answer(answer.status_code, answer.headers, answer.get_data())


def other_app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"the app behind it"]


class TestReceiver(ReceiverContract, AdapterContract):
    def exchange(self, node: ClusterMediator, call: Call) -> Answer:
        headers = {name.lower(): value for name, value in call.headers.items()}
        given = {"content-type": call.content_type, "content-length": call.announced, "host": call.host}
        raw = RawRequest(
            call.method,
            call.path,
            {**headers, **{name: value for name, value in given.items() if value}},
            call.stream.read,
            call.announced or None,
            call.terminated,
            call.remote_address,
            call.protocol,
        )
        reply = node.receiver.handle(raw)
        # The length is for the server to say.
        return Answer(reply.status, {"Content-Length": str(len(reply.body)), **reply.headers}, reply.body)

    @pytest.mark.parametrize("path", ["/", "", INVOKE_PATH + "/", "/catga/cluster", "/catga/cluster/invoke2", "/x"])
    def test_another_path_is_404(self, node: ClusterMediator, path: str) -> None:
        call = invocation()
        self.refused(node, Call(call.body, path=path), 404, ErrorCode.UNIMPLEMENTED, "unknown")


class TestFlaskBlueprint(AdapterContract):
    #: One for each node, made by one thread at a time: werkzeug parses code for its routes, which Python up to 3.11.8
    #: cannot do in several threads at once (CPython issue 106905).
    _apps: ClassVar[weakref.WeakKeyDictionary[ClusterMediator, Flask]] = weakref.WeakKeyDictionary()
    _making = threading.Lock()

    def exchange(self, node: ClusterMediator, call: Call) -> Answer:
        with self._making:
            app = self._apps.get(node)
            if app is None:
                app = self._apps[node] = Flask(__name__)
                app.register_blueprint(cluster_blueprint(node))
        return through(app.test_client(), call)

    def test_the_rest_of_the_app_is_left_alone(self, node: ClusterMediator) -> None:
        app = Flask(__name__)
        app.register_blueprint(cluster_blueprint(node))
        app.add_url_rule("/hello", view_func=lambda: "hello")
        client = app.test_client()
        assert client.get("/hello").text == "hello"
        assert client.get("/catga/cluster/other").status_code == 404
        assert client.get(INVOKE_PATH + "/").status_code == 404

    def test_any_method_of_any_route_is_answered_with_an_envelope(self, node: ClusterMediator) -> None:
        outer = Blueprint("outer", __name__)
        outer.register_blueprint(cluster_blueprint(node))
        app = Flask(__name__)
        app.register_blueprint(outer)
        app.add_url_rule("/hello", view_func=lambda: "hello")
        for path in ROUTES:
            with app.test_client().open(path, method="FOO") as answer:
                assert ResponseEnvelope.decode(answer.data).error_code is ErrorCode.UNIMPLEMENTED
        assert app.test_client().open("/hello", method="FOO").status_code == 405

    def test_a_body_limit_of_the_app_does_not_hide_the_answer(self, node: ClusterMediator) -> None:
        app = Flask(__name__)
        app.config["MAX_CONTENT_LENGTH"] = 10
        app.register_blueprint(cluster_blueprint(node))
        assert through(app.test_client(), invocation()).reply.is_success

    def test_two_nodes_may_live_in_one_app(self, node: ClusterMediator) -> None:
        with create_cluster(Mediator(), node_id="node-2", discovery=MemoryDiscovery(), insecure=True) as second:
            app = Flask(__name__, subdomain_matching=True)
            app.config["SERVER_NAME"] = "localhost"
            app.register_blueprint(cluster_blueprint(node))
            app.register_blueprint(cluster_blueprint(second, "second"), subdomain="two")
            for host, there in (("localhost", node), ("two.localhost", second)):
                with app.test_client().get(NODE_PATH, base_url=f"http://{host}") as answer:
                    assert answer.json["nodeId"] == there.node.node_id

    def test_an_app_below_a_prefix_of_the_server_answers(self, node: ClusterMediator) -> None:
        app = Flask(__name__)
        app.register_blueprint(cluster_blueprint(node))
        with app.test_client().get(NODE_PATH, environ_overrides={"SCRIPT_NAME": "/shop"}) as answer:
            assert answer.status_code == 200

    def test_a_head_request_gets_the_headers_only(self, node: ClusterMediator) -> None:
        answer = self.exchange(node, Call(method="HEAD", path=NODE_PATH))
        assert (answer.status, answer.body) == (200, b"")
        assert int(answer.headers["Content-Length"]) > 0


class TestWsgiMiddleware(AdapterContract):
    def exchange(self, node: ClusterMediator, call: Call) -> Answer:
        return through(Client(ClusterMiddleware(other_app, node)), call)

    @pytest.mark.parametrize("path", ["/", INVOKE_PATH + "/", "/catga/cluster/other", INVOKE_PATH + "x"])
    def test_every_other_path_goes_to_the_app_behind_it(self, node: ClusterMediator, path: str) -> None:
        answer = self.exchange(node, Call(path=path, headers={"X-Forwarded-For": "1.2.3.4"}))
        assert (answer.status, answer.body) == (200, b"the app behind it")

    def test_a_head_request_gets_the_headers_only(self, node: ClusterMediator) -> None:
        answer = self.exchange(node, Call(method="HEAD", path=NODE_PATH))
        assert (answer.status, answer.body) == (200, b"")
        assert int(answer.headers["Content-Length"]) > 0

    @pytest.mark.parametrize("mediator", [None, Mediator(), "mediator", 7])
    def test_what_is_no_node_of_a_cluster_is_refused_at_once(self, mediator: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"^mediator: give what create_cluster\(\) returns"):
            ClusterMiddleware(other_app, mediator)

    @pytest.mark.parametrize("app", [None, "app", 7])
    def test_what_stands_behind_it_must_be_an_app(self, node: ClusterMediator, app: Any) -> None:
        with pytest.raises(TypeError, match=r"^app: give a WSGI application"):
            ClusterMiddleware(app, node)
