"""The app that the process tests serve: one node, configured by its environment; its handlers tell who ran them."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path

from flask import Flask

from catga_sync import BusinessError, CatgaResult, Mediator, create_cluster
from catga_sync.context import current_call
from catga_sync.integrations.flask import cluster_blueprint
from catga_sync.integrations.wsgi import ClusterMiddleware
from tests.process.messages import Answer, Ask, Crowd, Do, Fail, Hold, Relay, Tell

local = Mediator()


def answer(text: str) -> Answer:
    return Answer(text, os.getpid())


if os.environ.get("ROLE", "all") in ("all", "leaf"):

    @local.handler
    def ask(request: Ask) -> Answer:
        return answer(request.text)

    @local.handler
    def tell(request: Tell) -> dict[str, str]:
        call = current_call()
        assert call is not None
        return dict(call.context)

    @local.handler
    def do(request: Do) -> Answer:
        return answer(request.text)

    @local.handler
    def fail(request: Fail) -> CatgaResult[Answer]:
        if request.how == "raise":
            raise BusinessError("not today", code="CLOSED")
        if request.how == "crash":
            raise ValueError("a secret: s3cr3t")
        if request.how == "exit":
            sys.exit(3)
        if request.how == "cancel":
            raise asyncio.CancelledError("a secret: s3cr3t")
        return CatgaResult.failure("not today", "NOT_FOUND")

    @local.handler
    def hold(request: Hold) -> Answer:
        Path(request.started).touch()
        threading.Event().wait(request.seconds)
        return answer("held")

    # How many run now, and how many have at most. Guarded by crowd_lock.
    in_crowd = [0, 0]
    crowd_lock = threading.Lock()

    @local.handler
    def crowd(request: Crowd) -> Answer:
        with crowd_lock:
            in_crowd[0] += 1
            in_crowd[1] = max(in_crowd)
        threading.Event().wait(0.5)
        with crowd_lock:
            in_crowd[0] -= 1
            return answer(str(in_crowd[1]))


if os.environ.get("ROLE") == "relay":

    @local.handler
    def relay(request: Relay) -> CatgaResult[Answer]:
        return mediator.send(Ask(request.text))


scheme = os.environ.get("SCHEME", "http")
mediator = create_cluster(
    local,
    node_id=os.environ.get("NODE", "client"),
    endpoint=f"{scheme}://{os.environ.get('HOST', '127.0.0.1')}:{os.environ['PORT']}" if "PORT" in os.environ else None,
    cluster_name=os.environ.get("CLUSTER", "tests"),
    discovery=os.environ.get("DISCOVERY"),
    secret=os.environ.get("SECRET"),
    insecure=os.environ.get("INSECURE") == "1",
    stream=os.environ.get("STREAM", "auto"),
    heartbeat_interval=float(os.environ.get("HEARTBEAT", "5")),
    heartbeat_timeout=float(os.environ.get("HEARTBEAT_TIMEOUT", "30")),
)
app = Flask(__name__)
if os.environ.get("WAY") == "middleware":
    app.wsgi_app = ClusterMiddleware(app.wsgi_app, mediator)  # type: ignore[method-assign]
else:
    app.register_blueprint(cluster_blueprint(mediator))
