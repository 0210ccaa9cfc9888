"""A node that is served over gRPC, and callers of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from catga_sync import (
    CatgaError,
    CatgaResult,
    ClusterMediator,
    Delivery,
    ErrorCode,
    Event,
    Mediator,
    Query,
    Request,
    create_cluster,
)
from catga_sync.context import current_call
from catga_sync.integrations.grpc import GrpcServer, serve_grpc
from tests import processes

__all__ = ["Ask", "Fail", "Happened", "Served", "Shout", "Tell", "calling", "sent_to_nobody", "serving", "wait_for"]


@dataclass(frozen=True)
class Ask(Request[str]):
    text: str


@dataclass(frozen=True)
class Shout(Query[str]):
    text: str


@dataclass(frozen=True)
class Fail(Request[str]):
    how: str


@dataclass(frozen=True)
class Tell(Query[dict[str, str]]):
    """Its response is the context of its call."""


@dataclass(frozen=True)
class Happened(Event):
    what: str


class Served:
    """A node behind a gRPC server, and what its handlers have seen."""

    def __init__(self, **options: Any) -> None:
        self.ran: list[str] = []
        self.go = threading.Event()
        self.started = threading.Event()
        local = Mediator()
        local.register(Ask, self._ask)
        local.register(Shout, lambda request: "LONG" * 1000 if request.text == "long" else request.text.upper())
        local.register(Fail, self._fail)
        local.register(Tell, lambda request: dict(current_call().context))
        local.subscribe(Happened, lambda event: self.ran.append(event.what))
        self.mediator: ClusterMediator = create_cluster(local, environ={}, **options)

    def _ask(self, request: Ask) -> str:
        self.ran.append(request.text)
        if request.text == "wait":
            self.started.set()
            assert self.go.wait(30)
        return request.text

    def _fail(self, request: Fail) -> CatgaResult[str]:
        if request.how == "own":
            return CatgaResult.failure("sold out", code="SOLD_OUT")
        if request.how == "code":
            return CatgaResult.failure("no such thing", code=ErrorCode.NOT_FOUND)
        if request.how == "odd":
            return CatgaResult.failure("\u00fc\u2603 \n", code="\u00dc")
        raise CatgaError("broken")


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
