"""The stock: a Flask service that counts in Redis, so there may be several of it."""

import os

import redis
from flask import Flask

from catga_sync import BusinessError, Mediator, create_cluster
from catga_sync.integrations.flask import cluster_blueprint

from messages import Reserve, SoldOut

store = redis.Redis.from_url(os.environ["STOCK_URL"])
local = Mediator()


@local.handler
def reserve(request: Reserve) -> int:
    key = f"stock:{request.item}"
    store.set(key, 3, nx=True)  # a shop that starts with three of everything
    left = int(store.decrby(key, request.amount))
    if left < 0:
        left = int(store.incrby(key, request.amount))
        raise BusinessError(f"only {left} of {request.item} left", code="SOLD_OUT")
    if left == 0:
        mediator.publish(SoldOut(request.item))  # to orders, which waits for this very call
    return left


mediator = create_cluster(local)
app = Flask(__name__)
app.register_blueprint(cluster_blueprint(mediator))


@app.get("/healthz")
def healthz() -> str:
    return "ok"
