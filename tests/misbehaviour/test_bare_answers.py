"""An answer that is not the node's: a query goes elsewhere, a plain request runs once at most, the node is FAULTED."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask

from catga_sync.cluster.factory import create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.errors import Delivery
from catga_sync.integrations.flask import cluster_blueprint
from catga_sync.mediator import Mediator
from catga_sync.messages import Query, Request, message
from catga_sync.nodes import NodeStatus
from tests.processes import free_port, until
from tests.unit.serving import serving, serving_app

SECRET = "a secret of more than thirty-two characters"
STATUSES = (200, 401, 403, 404, 405, 413, 429, 500, 502, 503, 504)


@message(name="bare.Find")
@dataclass(frozen=True)
class Find(Query[int]):
    number: int


@message(name="bare.Do")
@dataclass(frozen=True)
class Do(Request[int]):
    number: int


class Front:
    """A server in front of a node, which answers by itself once it has a status."""

    def __init__(self, node: ClusterMediator) -> None:
        self.status: int | None = None
        self.app = Flask(__name__)
        self.app.register_blueprint(cluster_blueprint(node))

    def __call__(self, environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self.status is None:
            return self.app(environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(f"{self.status} X", [("Content-Type", "text/html"), ("Content-Length", "15")])
        return [b"<html>no</html>"]


#: One of a client's fault to signed calls and one of a server's to unsigned ones; "make soak" has all.
CASES = [
    pytest.param(
        status,
        secret,
        id=f"{status}-{'signed' if secret else 'unsigned'}",
        marks=[] if (status, secret) in ((404, SECRET), (503, None)) else pytest.mark.slow,
    )
    for status in STATUSES
    for secret in (None, SECRET)
]


@pytest.mark.parametrize(("status", "secret"), CASES)
def test_a_bare_answer_costs_no_query_runs_no_request_twice_and_counts_against_its_node(
    status: int, secret: str | None
) -> None:
    ran: list[Any] = []
    options: dict[str, Any] = {"secret": secret, "insecure": secret is None, "discovery": "memory://"}

    def node(name: str, port: int) -> ClusterMediator:
        local = Mediator()
        for kind in (Find, Do):
            local.register(kind, lambda request: ran.append(request) or request.number)
        endpoint = f"http://127.0.0.1:{port}"
        return create_cluster(local, node_id=name, endpoint=endpoint, **options)

    ports = {"bad": free_port(), "good": free_port()}
    with (
        node("bad", ports["bad"]) as bad,
        node("good", ports["good"]) as good,
        serving_app(front := Front(bad), ports["bad"]),
        serving(good, ports["good"]),
        create_cluster(
            Mediator(),
            node_id="client",
            router="round-robin",
            retry_delay=0.0,
            **{**options, "discovery": "static"},
            peers={name: f"http://127.0.0.1:{port}" for name, port in ports.items()},
        ) as client,
    ):
        until(lambda: all(each.handles for each in client.nodes()), "both have described themselves")
        front.status = status
        plain = [client.send(Do(number)) for number in range(4)]
        found = [client.send(Find(number)) for number in range(60)]
        assert [result.value for result in found] == list(range(60))
        assert {each.node_id: each.status for each in client.nodes()}["bad"] is NodeStatus.FAULTED
    assert [result.delivery for result in plain if not result] == [Delivery.UNKNOWN] * 2
    assert [ran.count(Do(number)) for number, result in enumerate(plain)] == [1 if result else 0 for result in plain]
