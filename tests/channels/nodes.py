"""A node that is served by POST, over streams or over gRPC, and callers of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from catga_sync import (
    CatgaError,
    CatgaResult,
    ClusterMediator,
    ErrorCode,
    Event,
    Mediator,
    Query,
    Request,
    _server_info,
    create_cluster,
)
from catga_sync.context import current_call
from catga_sync.hooks import AttemptDetails
from catga_sync.integrations.wsgi import ClusterMiddleware
from catga_sync.nodes import STREAM
from tests.channels import lending
from tests.conftest import require_module
from tests.processes import free_port, until

__all__ = [
    "WAYS",
    "Ask",
    "Fail",
    "Happened",
    "Served",
    "Shout",
    "Tell",
    "Ways",
    "calling",
    "every_way",
    "serving",
]

#: How a call may travel.
WAYS = ("post", "stream", "grpc")
every_way = pytest.mark.parametrize("way", WAYS)


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

    @property
    def endpoint(self) -> str:
        """Where it is served."""
        return self.mediator.node.endpoint or ""

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


class Ways:
    """A hook that notes by which way each attempt went."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_attempt(self, details: AttemptDetails) -> None:
        self.seen.append(details.way)


@contextlib.contextmanager
def serving(way: str, **options: Any) -> Iterator[Served]:
    """Serve a node ``users`` on a free port of loopback, or on that of the endpoint in the options."""
    scheme = "grpc" if way == "grpc" else "http"
    given = {"node_id": "users", "discovery": "memory://", "endpoint": f"{scheme}://127.0.0.1:{free_port()}", **options}
    served = Served(**given)
    with contextlib.ExitStack() as stack:
        stack.callback(served.mediator.close)
        if way == "grpc":
            require_module("grpc")
            from catga_sync.integrations.grpc import serve_grpc

            stack.enter_context(serve_grpc(served.mediator))
        else:
            # What other tests of this process have noticed of a server is not known here, and the other way round.
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setattr(_server_info, "_info", [_server_info.ServerInfo()])
            patch.setattr(_server_info, "_noticed", [])
            app = ClusterMiddleware(lambda environ, start_response: [], served.mediator)
            stack.enter_context(lending.serving(app, int(given["endpoint"].rpartition(":")[2])))
        # Before the server, which waits for its handlers.
        stack.callback(served.go.set)
        yield served


@contextlib.contextmanager
def calling(way: str, endpoint: str, **options: Any) -> Iterator[ClusterMediator]:
    """Yield a caller of the node ``users`` that sends by one way."""
    given = {"node_id": "web", "peers": {"users": endpoint}, "max_retries": 0, **options}
    if way == "post":
        given["stream"] = "off"
    with create_cluster(Mediator(), environ={}, **given) as caller:
        if way == "stream":
            until(lambda: any(STREAM in each.features for each in caller.nodes()), "the node offers streams")
        yield caller
