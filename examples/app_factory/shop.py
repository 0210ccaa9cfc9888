"""The service with the pages: it has no handler and knows no address."""

import os
from typing import Any

from flask import Blueprint, Flask, current_app

from catga_sync import CatgaResult, ClusterMediator, Mediator, create_cluster
from catga_sync.integrations.flask import cluster_blueprint

from messages import GetStock, ReserveStock

pages = Blueprint("pages", __name__)


def mediator() -> ClusterMediator:
    """Return the mediator of the app that serves this request."""
    found: ClusterMediator = current_app.extensions["mediator"]
    return found


def failure(result: CatgaResult[Any]) -> tuple[dict[str, Any], int]:
    return {"error": result.error}, result.http_status


@pages.get("/stock/<sku>")
def stock(sku: str) -> Any:
    result = mediator().send(GetStock(sku))
    return {"available": result.unwrap().available} if result else failure(result)


@pages.post("/stock/<sku>/<int:quantity>")
def reserve(sku: str, quantity: int) -> Any:
    result = mediator().send(ReserveStock(sku, quantity), timeout=5)
    return {"left": result.unwrap().left} if result else failure(result)


def create_app() -> Flask:
    """Make the app, with a mediator of its own among its extensions."""
    app = Flask(__name__)
    port = os.environ.get("PORT", "5012")
    cluster = create_cluster(Mediator(), node_id="shop", endpoint=f"http://localhost:{port}")
    app.extensions["mediator"] = cluster
    app.register_blueprint(cluster_blueprint(cluster))
    app.register_blueprint(pages)
    return app
