"""Nodes in this process that each have a tracer of their own, for ``test_opentelemetry.py``."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask import Flask
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from catga_sync import (
    ClusterMediator,
    ClusterNode,
    Event,
    Mediator,
    Query,
    Request,
    create_cluster,
    message,
)
from catga_sync.integrations.flask import cluster_blueprint
from catga_sync.observability.opentelemetry import OpenTelemetryHook
from tests.processes import free_port, until
from tests.unit.serving import serving_app

__all__ = ["Ask", "Happened", "Order", "Traced", "Worlds", "node", "pure_client", "short"]


@message(name="otel.Order")
@dataclass(frozen=True)
class Order(Request[str]):
    """Handled by b, which asks c."""

    item: str


@message(name="otel.Ask")
@dataclass(frozen=True)
class Ask(Query[str]):
    item: str


@message(name="otel.Happened")
@dataclass(frozen=True)
class Happened(Event):
    item: str


@dataclass
class Traced:
    """A mediator, and the spans that its process would have exported."""

    mediator: ClusterMediator
    provider: TracerProvider
    exporter: InMemorySpanExporter
    #: Stops its server, and leaves the rest as it is.
    stop: Any = None

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()


@dataclass
class Worlds:
    """All nodes of one test. A name is free for one of them."""

    cluster_name: str = field(default_factory=lambda: f"otel-{uuid.uuid4().hex[:12]}")
    nodes: dict[str, Traced] = field(default_factory=dict)

    def spans(self) -> list[ReadableSpan]:
        """Return the spans of all nodes in the order in which they began."""
        found = [span for each in self.nodes.values() for span in each.spans]
        return sorted(found, key=lambda span: span.start_time or 0)

    def see_each_other(self) -> None:
        """Wait until every mediator sees every node."""
        serve = sorted(name for name, each in self.nodes.items() if each.stop is not None)
        for each in self.nodes.values():
            until(
                lambda each=each: sorted(node.node_id for node in each.mediator.nodes()) == serve,
                f"{each.mediator.node.node_id} sees {serve}",
            )
        for each in self.nodes.values():
            each.exporter.clear()


class FirstById:
    """A router that is easy to foresee."""

    def route(self, request: Any, nodes: Sequence[ClusterNode]) -> ClusterNode:
        return min(nodes, key=lambda node: node.node_id)


def _traced(worlds: Worlds, name: str, local: Mediator, **options: Any) -> Traced:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": name}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    mediator = create_cluster(
        local,
        environ={},
        node_id=name,
        cluster_name=worlds.cluster_name,
        discovery="memory://",
        router=FirstById(),
        retry_delay=0.0,
        **options,
    )
    mediator.add_hook(OpenTelemetryHook(tracer_provider=provider))
    made = worlds.nodes[name] = Traced(mediator, provider, exporter)
    return made


@contextlib.contextmanager
def node(
    worlds: Worlds, name: str, local: Mediator, around: Callable[[Any, Traced], Any] | None = None
) -> Iterator[Traced]:
    """
    Serve a node over HTTP until the block is left.

    Args:
        worlds: The other nodes.
        name: Its id.
        local: Its handlers.
        around: Returns a WSGI app around the node's own, as instrumentation does; None means nothing around it.
    """
    port = free_port()
    made = _traced(worlds, name, local, endpoint=f"http://127.0.0.1:{port}")
    app = Flask(__name__)
    app.register_blueprint(cluster_blueprint(made.mediator))
    with made.mediator, contextlib.ExitStack() as server:
        server.enter_context(serving_app(app if around is None else around(app, made), port))
        made.stop = server.close
        yield made
    made.provider.shutdown()


@contextlib.contextmanager
def pure_client(worlds: Worlds, name: str) -> Iterator[Traced]:
    made = _traced(worlds, name, Mediator())
    with made.mediator:
        yield made
    made.provider.shutdown()


def short(spans: Sequence[ReadableSpan]) -> list[str]:
    """Return each span as ``service KIND name``."""
    return [f"{span.resource.attributes['service.name']} {span.kind.name} {span.name}" for span in spans]
