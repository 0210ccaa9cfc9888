"""A node that is served over gRPC, with its server, and callers of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from catga_sync import CatgaResult, ClusterMediator, Delivery, ErrorCode, Mediator, Request, create_cluster
from catga_sync.integrations.grpc import GrpcServer, serve_grpc
from tests import processes
from tests.channels.nodes import Served

__all__ = ["calling", "sent_to_nobody", "serving", "wait_for"]


@contextlib.contextmanager
def serving(**options: Any) -> Iterator[tuple[Served, GrpcServer]]:
    """Serve a node ``users`` on a free port of loopback."""
    endpoint = f"grpc://127.0.0.1:{processes.free_port()}"
    served = Served(**{"node_id": "users", "discovery": "memory://", "endpoint": endpoint, **options})
    server = serve_grpc(served.mediator)
    try:
        yield served, server
    finally:
        served.go.set()
        server.stop()
        served.mediator.close()


@contextlib.contextmanager
def calling(endpoint: str, **options: Any) -> Iterator[ClusterMediator]:
    """Yield a caller that knows the node ``users`` by its endpoint."""
    given = {"node_id": "web", "peers": {"users": endpoint}, "max_retries": 0, **options}
    with create_cluster(Mediator(), environ={}, **given) as caller:
        yield caller


def sent_to_nobody(caller: ClusterMediator, message: Request[Any]) -> CatgaResult[Any]:
    """
    Send to a node that has ended, and return the result of a call that has found no connection.

    grpcio may take a moment to see that the former connection is closed. A call that begins meanwhile is UNKNOWN, since
    grpcio does not tell how far it has come; the next one makes a connection of its own.
    """
    first = caller.send(message)
    assert (first.code, first.delivery) in [
        (ErrorCode.UNAVAILABLE, Delivery.UNKNOWN),
        (ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED),
    ]
    return caller.send(message) if first.delivery is Delivery.UNKNOWN else first


def wait_for(condition: Any, seconds: float = 20.0) -> None:
    """Wait until a condition holds."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it does not come true")
