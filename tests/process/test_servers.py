"""The servers of ``docs/servers.md``: a node under each of them is seen, serves, and is gone with it."""

from __future__ import annotations

import gc

import pytest
from flask import Flask

from catga_sync import Mediator, create_cluster
from catga_sync.hooks import AttemptDetails
from catga_sync.integrations.flask import cluster_blueprint
from catga_sync.nodes import STREAM
from tests.conftest import require_module
from tests.process.messages import Ask, Do
from tests.process.nodes import default_file, node, wait_for
from tests.process.servers import SERVERS, Server
from tests.processes import free_port, until

require_module("gunicorn")
psutil = require_module("psutil")

pytestmark = pytest.mark.process

#: One that lends its connections and one that does not; "make soak" has the others.
FEW = {"gunicorn gthread", "wsgiref"}

#: Signatures are headers to a server: in "make test" one server has them and the others have none.
CASES = [
    pytest.param(
        SERVERS[name],
        secret,
        id=f"{name}-{'signed' if secret else 'unsigned'}",
        marks=pytest.mark.slow if bool(secret) != (name == "gunicorn gthread") or name not in FEW else [],
    )
    for name in SERVERS
    for secret in (None, "s" * 32)
]


class Ways:
    """A hook that notes by which way calls go."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def on_attempt(self, details: AttemptDetails) -> None:
        self.seen.add(details.way)


@pytest.mark.parametrize(("server", "secret"), CASES)
def test_a_node_under_this_server_is_seen_serves_and_is_gone_with_it(
    server: Server, secret: str | None, cluster_name: str
) -> None:
    ways = Ways()
    signed = {} if secret is None else {"SECRET": secret}
    with (
        server.serve(free_port(), NODE="n", CLUSTER=cluster_name, HEARTBEAT="0.5", **signed) as process,
        create_cluster(
            Mediator(),
            node_id="client",
            cluster_name=cluster_name,
            discovery=default_file(cluster_name),
            secret=secret,
            hooks=[ways],
        ) as client,
    ):
        wait_for(client, "n")
        for _ in range(10):
            assert client.send(Ask("x"), timeout=20.0).is_success, process.output()
            assert client.send(Do("x"), timeout=20.0).is_success, process.output()
        assert [each.node_id for each in client.nodes()] == ["n"]
        if server.streams:
            until(lambda: client.send(Do("x"), timeout=20.0) and "stream" in ways.seen, "a call goes over a stream")
        assert (STREAM in client.nodes()[0].features) == server.streams
        assert ("stream" in ways.seen) == server.streams
        process.stop()
        wait_for(client)


def test_connections_of_a_mediator_that_is_dropped_with_its_app_are_closed(cluster_name: str) -> None:
    def use() -> Flask:
        app = Flask(__name__)
        mediator = create_cluster(
            Mediator(), node_id="app", cluster_name=cluster_name, discovery=default_file(cluster_name)
        )
        app.register_blueprint(cluster_blueprint(mediator))
        wait_for(mediator, "n")
        assert mediator.send(Ask("x"), timeout=20.0).is_success
        return app

    with node("n", cluster_name, "--keep-alive", "75") as server:

        def connections() -> int:
            held = psutil.Process().net_connections()
            return sum(each.raddr != () and each.raddr.port == server.port for each in held)

        app = use()
        assert connections() >= 1
        del app
        for _ in range(10):
            use()
        until(lambda: gc.collect() is not None and connections() == 0, "no connection is left")
