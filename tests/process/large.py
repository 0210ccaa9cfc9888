"""A node that takes large requests with values of many kinds, as a blueprint or as a middleware."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from flask import Flask

from catga_sync import Mediator, Query, create_cluster, message
from catga_sync.integrations.flask import cluster_blueprint
from catga_sync.integrations.wsgi import ClusterMiddleware
from catga_sync.receiver import request


@dataclass(frozen=True)
class Point:
    """A small object, one of many."""

    x: int
    y: int = 0


@message(name="tests.Large")
@dataclass(frozen=True)
class Large(Query[int]):
    """Many values of one kind; the answer is how many."""

    numbers: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()
    points: tuple[Point, ...] = ()
    by_key: dict[str, int] | None = None
    anything: Any = None


# Eight bodies at once are read for longer on a busy machine, and how long that takes is not the matter here.
request.BODY_TIME = 600.0
local = Mediator()


@local.handler
def large(request: Large) -> int:
    anything = request.anything if isinstance(request.anything, list) else ()
    return sum(map(len, (request.numbers, request.texts, request.points, request.by_key or (), anything)))


mediator = create_cluster(
    local,
    node_id=os.environ["NODE"],
    endpoint=f"http://127.0.0.1:{os.environ['PORT']}",
    cluster_name=os.environ["CLUSTER"],
    insecure=True,
)
app = Flask(__name__)
if os.environ.get("BEHIND") == "middleware":
    app.wsgi_app = ClusterMiddleware(app.wsgi_app, mediator)  # type: ignore[method-assign]
else:
    app.register_blueprint(cluster_blueprint(mediator))
