"""A node whose every outcome is counted: the app for ``test_metrics.py``."""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask

from catga_sync import create_cluster
from catga_sync.integrations.flask import cluster_blueprint
from catga_sync.observability.prometheus import PrometheusHook, metrics_blueprint
from tests.process.app import Answer, local
from tests.process.metered_messages import Orphan, Private, Unfit, Wait
from tests.processes import until


def wait(request: Wait) -> None:
    Path(request.started).touch()
    until(Path(request.go).exists, "it may end", 60.0)


local.registry.register(Orphan)
local.register(Private, lambda request: Answer(request.text, 0))
local.register(Unfit, lambda request: Answer(7, 0))  # type: ignore[arg-type]
local.register(Wait, wait)

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
