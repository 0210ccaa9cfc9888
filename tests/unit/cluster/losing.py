"""Two real nodes that run what they are sent and lose the response: what a caller does then is seen in what has run."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from catga_sync import ClusterMediator, Mediator, Query, Request, create_cluster, message
from catga_sync.integrations.wsgi import ClusterMiddleware
from tests.processes import free_port, until
from tests.unit.cluster.real import Foreign, served

__all__ = ["Do", "Look", "Pair", "pair"]

#: Of all nodes here: what a node says of itself when it joins is what the others believe while a test lasts.
_OPTIONS = {"discovery": "memory://", "heartbeat_interval": 60.0, "heartbeat_timeout": 180.0, "retry_delay": 0.0}


@message(name="losing.Do")
@dataclass(frozen=True)
class Do(Request[int]):
    number: int = 0


@message(name="losing.Look")
@dataclass(frozen=True)
class Look(Query[int]):
    number: int = 0


class Pair:
    """The nodes ``a`` and ``b``, and a client that asks ``a`` first, if it can."""

    def __init__(self) -> None:
        #: Node and number of each ``Do`` that was executed.
        self.ran: list[tuple[str, int]] = []
        #: The nodes whose responses to calls are lost, and the value of ``Catga-Executed`` of those that are.
        self.losing, self.lost = {"a", "b"}, {"1"}
        #: Called in the handler of ``a``, as what happens elsewhere meanwhile.
        self.meanwhile: Callable[[], object] = lambda: None
        self.client: ClusterMediator
        #: The nodes of this pair.
        self.nodes: dict[str, ClusterMediator] = {}

    @property
    def features(self) -> dict[str, frozenset[str]]:
        """What the client believes of the nodes."""
        return {node.node_id: node.features for node in self.client.nodes()}

    def local(self, name: str) -> Mediator:
        local = Mediator()

        @local.handler
        def do(request: Do) -> int:
            self.ran.append((name, request.number))
            if name == "a":
                self.meanwhile()
            return request.number

        @local.handler
        def look(request: Look) -> int:
            return request.number

        return local

    def app(self, name: str, mediator: ClusterMediator) -> Callable[..., Any]:
        inner = ClusterMiddleware(Foreign(), mediator)

        def app(environ: dict[str, Any], start_response: Any) -> Any:
            told: dict[str, str] = {}

            def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
                told.update(headers)
                return start_response(status, headers, *rest)

            response = inner(environ, start)
            if name in self.losing and environ["REQUEST_METHOD"] == "POST" and told["Catga-Executed"] in self.lost:
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return response

        return app


class _AFirst:
    def route(self, message: Any, nodes: Any) -> Any:
        return min(nodes, key=lambda node: node.node_id)


@contextlib.contextmanager
def pair(a: Any, b: Any, *, listed: bool = False, **options: Any) -> Iterator[Pair]:
    """
    Serve two nodes that have these idempotency stores.

    Args:
        a: The store of the one.
        b: The store of the other.
        listed: Whether all have a list of addresses instead of a store of nodes, and ask each node what it is.
        options: Of all three.
    """
    made = Pair()
    ports = {"a": free_port(), "b": free_port()}
    endpoints = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    if listed:
        options = {"discovery": "static", "peers": endpoints, **options}
    with contextlib.ExitStack() as stack:
        for name, store in (("a", a), ("b", b)):
            given = {**_OPTIONS, "node_id": name, "endpoint": endpoints[name], "idempotency": store}
            made.nodes[name] = mediator = create_cluster(made.local(name), **{**given, **options})
            stack.enter_context(served(made.app(name, mediator), ports[name]))
            stack.enter_context(mediator)
        given = {**_OPTIONS, "node_id": "client", "router": _AFirst()}
        made.client = stack.enter_context(create_cluster(Mediator(), **{**given, **options}))
        until(lambda: len(made.client.nodes()) == 2, "both nodes are visible")
        yield made
