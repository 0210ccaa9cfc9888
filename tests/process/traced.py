"""Three nodes, each of which asks the next: what they log of one call is what ``test_traces.py`` looks at."""

from __future__ import annotations

import logging
import os

from flask import Flask

from catga_sync import BusinessError, CatgaResult, Mediator, create_cluster
from catga_sync.behaviors import logging_behavior
from catga_sync.integrations.flask import cluster_blueprint
from tests.process.messages import First, Inside, Second, Third

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
