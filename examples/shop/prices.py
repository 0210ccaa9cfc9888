"""The prices: a Flask service. Its options come from CATGA_... variables."""

from decimal import Decimal

from flask import Flask

from catga_sync import BusinessError, ErrorCode, Mediator, create_cluster
from catga_sync.integrations.flask import cluster_blueprint

from messages import PriceOf

PRICES = {"apple": Decimal("0.40"), "pear": Decimal("0.55")}

local = Mediator()


@local.handler
def price_of(query: PriceOf) -> Decimal:
    price = PRICES.get(query.item)
    if price is None:
        raise BusinessError(f"no price for {query.item}", code=ErrorCode.NOT_FOUND)
    return price


mediator = create_cluster(local)
app = Flask(__name__)
app.register_blueprint(cluster_blueprint(mediator))


@app.get("/healthz")
def healthz() -> str:
    return "ok"
