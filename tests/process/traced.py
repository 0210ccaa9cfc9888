"""Three nodes, each of which asks the next: what they log of one call is what ``test_traces.py`` looks at."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

from flask import Flask

from catga_sync import BusinessError, CatgaResult, Mediator, Request, create_cluster, message
from catga_sync.behaviors import logging_behavior
from catga_sync.integrations.flask import cluster_blueprint


@message(name="traces.First")
@dataclass(frozen=True)
class First(Request[str]):
    """Asks for Second."""

    how: str


@message(name="traces.Second")
@dataclass(frozen=True)
class Second(Request[str]):
    """Asks for Third, twice: alone and in a batch."""

    how: str


@message(name="traces.Third")
@dataclass(frozen=True)
class Third(Request[str]):
    """Asks for Inside, which is handled by the same process."""

    how: str


@message(name="traces.Inside", remote=False)
@dataclass(frozen=True)
class Inside(Request[str]):
    """Does what ``how`` says."""

    how: str


logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
local = Mediator()
name = os.environ.get("NODE", "")

if name == "n1":

    @local.handler
    def first(request: First) -> CatgaResult[str]:
        return mediator.send(Second(request.how))


if name == "n2":

    @local.handler
    def second(request: Second) -> CatgaResult[str]:
        mediator.send_batch([Third(request.how)])
        return mediator.send(Third(request.how))


if name == "n3":

    @local.handler
    def third(request: Third) -> CatgaResult[str]:
        return local.send(Inside(request.how))

    @local.handler
    def inside(request: Inside) -> str:
        if request.how == "refuse":
            raise BusinessError("not today")
        if request.how == "crash":
            raise ValueError("a fault")
        return "done"


mediator = create_cluster(
    local,
    node_id=name or "client",
    endpoint=f"http://127.0.0.1:{os.environ['PORT']}" if "PORT" in os.environ else None,
    cluster_name=os.environ.get("CLUSTER", "tests"),
)
local.add_behavior(logging_behavior(logging.getLogger("calls.here")))
mediator.add_behavior(logging_behavior(logging.getLogger("calls.sent")))
app = Flask(__name__)
app.register_blueprint(cluster_blueprint(mediator))
