"""Nodes that ask the next and write their spans to a file, one line each, for ``test_spans.py``."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from catga_sync import ClusterNode, Mediator, Request, create_cluster, message
from catga_sync.integrations.flask import cluster_blueprint
from catga_sync.observability.opentelemetry import OpenTelemetryHook


@message(name="spans.First")
@dataclass(frozen=True)
class First(Request[str]):
    """Handled by n1, which asks n2."""


@message(name="spans.Second")
@dataclass(frozen=True)
class Second(Request[str]):
    """Handled by n2, which asks n3 or n4."""


@message(name="spans.Third")
@dataclass(frozen=True)
class Third(Request[str]):
    """Handled by n3 and n4."""


class FirstById:
    """A router that is easy to foresee."""

    def route(self, request: Any, nodes: Sequence[ClusterNode]) -> ClusterNode:
        return min(nodes, key=lambda node: node.node_id)


def as_line(span: ReadableSpan) -> str:
    return json.dumps(json.loads(span.to_json())) + "\n"


name = os.environ["NODE"]
log = logging.getLogger("spans")
local = Mediator()

if name == "n1":

    @local.handler
    def first(request: First) -> str:
        log.info("first")
        return mediator.send(Second()).unwrap()


if name == "n2":

    @local.handler
    def second(request: Second) -> str:
        log.info("second")
        return mediator.send(Third()).unwrap()


if name in ("n3", "n4"):

    @local.handler
    def third(request: Third) -> str:
        log.info("third")
        return f"done by {name}"


provider = TracerProvider(resource=Resource({"service.name": name}))
file = Path(os.environ["SPANS"], f"{name}.jsonl").open("a", encoding="utf-8")  # noqa: SIM115 - as long as the process
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=file, formatter=as_line)))
mediator = create_cluster(
    local,
    node_id=name,
    endpoint=f"http://127.0.0.1:{os.environ['PORT']}",
    cluster_name=os.environ["CLUSTER"],
    router=FirstById(),
    hooks=[OpenTelemetryHook(tracer_provider=provider)],
)
app = Flask(__name__)
app.register_blueprint(cluster_blueprint(mediator))


@app.get("/first")
def ask() -> str:
    log.info("view")
    return mediator.send(First()).unwrap()


@app.get("/sees")
def sees() -> list[str]:
    return [node.node_id for node in mediator.nodes()]
