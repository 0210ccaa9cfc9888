"""Nodes over real servers in this process, for tests that compare what a call gives here and there."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from catga_sync.cluster.factory import create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.integrations.flask import cluster_blueprint
from catga_sync.mediator import Mediator
from catga_sync.testing import LocalCluster
from tests.processes import free_port

__all__ = ["serving", "serving_app", "three_ways"]


class Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        pass


@contextlib.contextmanager
def serving(node: ClusterMediator, port: int) -> Iterator[None]:
    """Serve a node until the block is left: over gRPC where its endpoint says so, else over HTTP."""
    if (node.node.endpoint or "").startswith("grpc:"):
        from catga_sync.integrations.grpc import serve_grpc

        with serve_grpc(node):
            yield
        return
    app = Flask(__name__)
    app.register_blueprint(cluster_blueprint(node))
    with serving_app(app, port):
        yield


@contextlib.contextmanager
def serving_app(app: Any, port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[None]:
    """Serve an app in this process, with Werkzeug's server, until the block is left."""
    server = make_server(host, port, app, threaded=True, request_handler=Quiet, ssl_context=tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="server")
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@contextlib.contextmanager
def three_ways(local: Mediator) -> Iterator[Mapping[str, Mediator | ClusterMediator]]:
    """
    Give the ways to the handlers of a mediator: it, its node, another node over HTTP, and one of a ``LocalCluster``.

    The node's endpoint is known.
    """
    endpoint = f"http://127.0.0.1:{(port := free_port())}"
    with (
        create_cluster(local, node_id="node", endpoint=endpoint, discovery="memory://") as node,
        create_cluster(Mediator(), node_id="client", discovery="static", peers={"node": endpoint}) as client,
        serving(node, port),
        LocalCluster() as cluster,
    ):
        client.start()
        cluster.add_node("node", local)
        inside = cluster.add_client().start()
        yield {"the local mediator": local, "its node": node, "another node": client, "another node in process": inside}
