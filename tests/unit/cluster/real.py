"""Real nodes in this process: a mediator behind a server of its own, and peers that are none of ours."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

from catga_sync.cluster.factory import create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.discovery import create_discovery
from catga_sync.integrations.wsgi import ClusterMiddleware
from catga_sync.mediator import Mediator
from tests.processes import free_port, until

__all__ = ["Foreign", "Quiet", "node_at", "served"]


class Quiet(WSGIRequestHandler):
    """Handles requests without a word."""

    def log(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served(app: Callable[..., Any], port: int, handler: type[WSGIRequestHandler] = Quiet) -> Iterator[str]:
    """Serve an app on a port until the block is left; yield its URL."""
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def node_at(name: str, local: Mediator, *, port: int | None = None, **options: Any) -> Iterator[ClusterMediator]:
    """Serve a node that its store knows until the block is left, and then stop it in the ordinary way."""
    port = free_port() if port is None else port
    mediator = create_cluster(local, node_id=name, endpoint=f"http://127.0.0.1:{port}", **options)
    with served(ClusterMiddleware(Foreign(), mediator), port), mediator:
        store = create_discovery(mediator.options.discovery, cluster_name=mediator.options.cluster_name)
        until(lambda: any(each.node.node_id == name for each in store.nodes()), "the record of the node is there")
        yield mediator


class Foreign:
    """A server that knows none of the cluster's routes, and takes note of what it is asked."""

    def __init__(self) -> None:
        self.posts = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.posts += environ["REQUEST_METHOD"] == "POST"
        start_response("404 Not Found", [("Content-Length", "0")])
        return [b""]
