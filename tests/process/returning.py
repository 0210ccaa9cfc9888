"""The app of two nodes whose calls come back: ``near`` asks ``far``, whose handler asks ``near``."""

from __future__ import annotations

import os
import threading

from flask import Flask

from catga_sync import CatgaResult, Mediator, create_cluster
from catga_sync.cluster.local_node import WITHOUT_A_LIMIT
from catga_sync.integrations.flask import cluster_blueprint
from tests.process.messages import Back, Home, Out

local = Mediator()


def once(result: CatgaResult[int]) -> CatgaResult[int]:
    """Return a result that took one attempt; any other is a failure, even if it is a success."""
    return result if len(result.attempts) == 1 else CatgaResult.failure(f"{result.attempts}", "TRIED_AGAIN")


if os.environ.get("ROLE") == "near":
    all_here = threading.Barrier(WITHOUT_A_LIMIT)

    @local.handler
    def out(request: Out) -> CatgaResult[int]:
        all_here.wait(60)
        return once(mediator.send(Back()))

    @local.handler
    def home(request: Home) -> int:
        return 1


if os.environ.get("ROLE") == "far":

    @local.handler
    def back(request: Back) -> CatgaResult[int]:
        return once(mediator.send(Home()))


mediator = create_cluster(
    local,
    node_id=os.environ.get("NODE", "client"),
    endpoint=f"http://127.0.0.1:{os.environ['PORT']}" if "PORT" in os.environ else None,
    cluster_name=os.environ.get("CLUSTER", "tests"),
    discovery=os.environ.get("DISCOVERY"),
)
app = Flask(__name__)
app.register_blueprint(cluster_blueprint(mediator))
