"""A cluster whose nodes are the pods of a Service: real servers, found through an API server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from flask import Flask
from werkzeug.serving import make_server

from catga_sync import ClusterEvent, ClusterMediator, ConfigurationError, Mediator, Query, create_cluster
from catga_sync.integrations.flask import cluster_blueprint
from tests import processes
from tests.conftest import require_module

require_module("kubernetes")

# isort: split

from tests.external.kubernetes_api import KubernetesApi  # noqa: E402 - see above
from tests.external.kubernetes_case import Discover, KubernetesCase  # noqa: E402
from tests.external.kubernetes_objects import endpoint_slice, pod, port  # noqa: E402


@dataclass(frozen=True)
class Answer:
    pod: str


@dataclass(frozen=True)
class WhoAnswers(Query[Answer]):
    pass


Serve = Callable[[str], int]


class TestCluster(KubernetesCase):
    @pytest.fixture
    def running(self) -> Iterator[ExitStack]:
        with ExitStack() as stack:
            yield stack

    @pytest.fixture
    def serve(self, api: KubernetesApi, discover: Discover, running: ExitStack) -> Serve:
        """Run a node, as a pod with a slice of its own: all of them have one address here, so each has a port."""

        def serve(name: str) -> int:
            number, local = processes.free_port(), Mediator()
            local.register(WhoAnswers, lambda request: Answer(name))
            node = create_cluster(
                local, node_id=name, endpoint=f"http://127.0.0.1:{number}", discovery=discover(), router="round-robin"
            )
            running.callback(node.close)
            app = Flask(name)
            app.register_blueprint(cluster_blueprint(node))
            server = make_server("127.0.0.1", number, app, threaded=True)
            threading.Thread(target=server.serve_forever, name=name, daemon=True).start()
            running.callback(server.server_close)
            running.callback(server.shutdown)
            api.put(endpoint_slice(f"slice-{name}", pod(name, "127.0.0.1"), ports=[port(number)]))
            return number

        return serve

    @pytest.fixture
    def client(self, discover: Discover, running: ExitStack) -> ClusterMediator:
        return running.enter_context(
            create_cluster(Mediator(), node_id="web", discovery=discover(), router="round-robin")
        )

    def answering(self, client: ClusterMediator, *pods: str) -> None:
        """Wait until exactly these are asked in turn."""

        def asked() -> bool:
            results = [client.send(WhoAnswers(), timeout=20) for _ in range(2 * len(pods))]
            return {result.value.pod if result.value else result.error for result in results} == set(pods)

        processes.until(asked, f"{pods} answer")

    def test_calls_the_pods_that_are_there_and_asks_them_what_they_handle(
        self, api: KubernetesApi, serve: Serve, client: ClusterMediator
    ) -> None:
        events: list[ClusterEvent] = []
        client.on_event(events.append)
        serve("users-0")
        self.answering(client, "users-0")
        serve("users-1")
        self.answering(client, "users-0", "users-1")
        processes.until(lambda: all(node.handles for node in client.nodes()), "they have said what they handle")
        assert [node.node_id for node in client.nodes()] == ["users-0", "users-1"]

        api.delete("slice-users-0")
        self.answering(client, "users-1")
        processes.until(lambda: len(events) >= 3, "it is told")
        told = [(event.kind.name, event.node.node_id) for event in events]
        assert told == [("NODE_JOINED", "users-0"), ("NODE_JOINED", "users-1"), ("NODE_LEFT", "users-0")]

    @pytest.mark.slow
    def test_goes_on_while_the_api_server_is_away(
        self, api: KubernetesApi, serve: Serve, client: ClusterMediator
    ) -> None:
        serve("users-0")
        self.answering(client, "users-0")
        api.stop()
        assert all(client.send(WhoAnswers(), timeout=20) for _ in range(50))
        api.start()
        serve("users-1")
        self.answering(client, "users-0", "users-1")

    def test_without_an_api_server_has_nobody_until_there_is_one(
        self, api: KubernetesApi, serve: Serve, client: ClusterMediator
    ) -> None:
        api.stop()
        error = client.send(WhoAnswers(), timeout=20).error or ""
        assert "; discovery: the EndpointSlices of shop/users cannot be read: " in error
        assert error.count("EndpointSlices") == 1
        api.start()
        serve("users-0")
        self.answering(client, "users-0")

    def test_a_service_without_a_pod_is_named(self, client: ClusterMediator) -> None:
        error = client.send(WhoAnswers(), timeout=20).error or ""
        assert "; no other node is in the EndpointSlices of shop/users: start one" in error


def test_a_url_is_enough_and_starts_nothing() -> None:
    before = threading.enumerate()
    with create_cluster(Mediator(), node_id="web", discovery="kubernetes://shop/users:http"):
        assert threading.enumerate() == before
    with pytest.raises(ConfigurationError, match=r"^discovery: write kubernetes://namespace/service"):
        create_cluster(Mediator(), discovery="kubernetes://users")
