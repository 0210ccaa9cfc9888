"""A node whose every outcome is counted: the app for ``test_metrics.py``."""

from __future__ import annotations

import os
from dataclasses import dataclass

from flask import Flask

from catga_sync import Request, create_cluster
from catga_sync.integrations.flask import cluster_blueprint
from catga_sync.observability.prometheus import PrometheusHook, metrics_blueprint
from tests.process.app import local


@dataclass(frozen=True)
class Orphan(Request[str]):
    """A request that this node knows and does not handle."""

    text: str


local.registry.register(Orphan, name="tests.Orphan")

mediator = create_cluster(
    local,
    node_id=os.environ["NODE"],
    endpoint=f"http://127.0.0.1:{os.environ['PORT']}",
    cluster_name=os.environ["CLUSTER"],
    discovery=os.environ["DISCOVERY"],
    idempotency=os.environ["IDEMPOTENCY"],
    secret=os.environ["SECRET"],
    max_body_bytes=64 * 1024,
    hooks=[PrometheusHook()],
)
app = Flask(__name__)
app.register_blueprint(cluster_blueprint(mediator))
app.register_blueprint(metrics_blueprint())
