"""The service that owns the stock: two handlers, and no page of its own."""

import os
import threading

from flask import Flask

from catga_sync import ErrorCode, Mediator, create_cluster
from catga_sync.errors import BusinessError
from catga_sync.integrations.flask import cluster_blueprint

from messages import GetStock, Reservation, ReserveStock, StockLevel


class Warehouse:
    """The state of the service. Thread-safe, as handlers have to be."""

    def __init__(self, stock: dict[str, int]) -> None:
        self._lock = threading.Lock()
        self._stock = dict(stock)

    def level(self, query: GetStock) -> StockLevel:
        with self._lock:
            return StockLevel(query.sku, self._available_locked(query.sku))

    def reserve(self, request: ReserveStock) -> Reservation:
        with self._lock:
            left = self._available_locked(request.sku) - request.quantity
            if left < 0:
                # An answer, not a fault: the caller sees this text and this code, wherever it runs.
                raise BusinessError(f"only {left + request.quantity} of {request.sku} left", code="SOLD_OUT")
            self._stock[request.sku] = left
        return Reservation(request.sku, request.quantity, left)

    def _available_locked(self, sku: str) -> int:
        if sku not in self._stock:
            raise BusinessError(f"there is no {sku}", code=ErrorCode.NOT_FOUND)
        return self._stock[sku]


def create_app() -> Flask:
    """Make the app: everything of this service belongs to the app, nothing to the module."""
    warehouse = Warehouse({"apple": 3, "pear": 0})
    local = Mediator()
    local.register(GetStock, warehouse.level)
    local.register(ReserveStock, warehouse.reserve)

    port = os.environ.get("PORT", "5011")
    mediator = create_cluster(local, node_id="stock", endpoint=f"http://localhost:{port}")

    app = Flask(__name__)
    app.register_blueprint(cluster_blueprint(mediator))
    return app
