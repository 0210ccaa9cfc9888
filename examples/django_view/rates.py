"""The service beside Django: currency conversion, at the rates fixed for good when the euro came."""

import os
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from flask import Flask

from catga_sync import ErrorCode, Mediator, create_cluster
from catga_sync.errors import BusinessError
from catga_sync.integrations.flask import cluster_blueprint

from messages import Euro, ListProducts, ToEuro

# Council Regulation (EC) No 2866/98: units of each currency for one euro.
PER_EURO = {
    "ATS": Decimal("13.7603"),
    "DEM": Decimal("1.95583"),
    "ESP": Decimal("166.386"),
    "FRF": Decimal("6.55957"),
    "ITL": Decimal("1936.27"),
}

local = Mediator()


@local.handler
def to_euro(query: ToEuro) -> Euro:
    rate = PER_EURO.get(query.currency)
    if rate is None:
        raise BusinessError(f"no rate for {query.currency}", code=ErrorCode.NOT_FOUND)
    return Euro((query.amount / rate).quantize(Decimal("0.01"), ROUND_HALF_UP))


port = os.environ.get("PORT", "5031")
mediator = create_cluster(local, node_id="rates", endpoint=f"http://localhost:{port}")
app = Flask(__name__)
app.register_blueprint(cluster_blueprint(mediator))


@app.get("/products")
def products() -> Any:
    result = mediator.send(ListProducts())  # answered by the Django process
    if not result:
        return {"error": result.error}, result.http_status
    return {p.name: str(to_euro(ToEuro(p.price, p.currency)).amount) for p in result.unwrap()}
