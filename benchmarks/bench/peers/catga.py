"""catga_sync: one node in gunicorn, called over a stream or by POST."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.bench.messages import Ask, Told, answer
from benchmarks.bench.peers import Asking
from benchmarks.bench.servers import STARTING_TIME, ServerFailedError, gunicorn
from catga_sync import ClusterMediator, Mediator, Request, create_cluster, message

#: More than the calls of any part that run at once.
MANY = 600
#: Seconds after which a node ends the calls that it holds, by itself.
HOLDING_TIME = 300.0


@message(name="bench.Hold")
@dataclass(frozen=True)
class Hold(Request[Told]):
    """Runs until there is a ``Release``, so that its stream stays in use."""


@message(name="bench.Release")
@dataclass(frozen=True)
class Release(Request[Told]):
    """Ends what is held, if it is to end ``now``; the response has the number of calls that are or were held."""

    now: bool


def command(port: int, *, workers: int = 1, app: str = "app") -> list[str]:
    return gunicorn(f"benchmarks.bench.peers.catga:{app}()", port, workers=workers, hooks=True)


@contextlib.contextmanager
def connect(port: int, callers: int, **options: Any) -> Iterator[list[Asking]]:
    with mediator(port, **options) as caller:

        def ask(text: str) -> Told:
            return caller.send(Ask(text)).unwrap()

        ask("ready?")
        check_way(caller, options.get("stream", "on"))
        yield [ask] * callers
        # What has gone by POST meanwhile is no figure of a stream.
        check_way(caller, options.get("stream", "on"))


@contextlib.contextmanager
def mediator(port: int, **options: Any) -> Iterator[ClusterMediator]:
    """Return a mediator that knows the node, once the node has told what it offers."""
    options = {"stream": "on", "peers": {f"node-{port}": f"http://127.0.0.1:{port}"}, **options}
    with create_cluster(Mediator(), node_id="caller", discovery="static", environ={}, **options) as caller:
        wanted = "batch" if options["stream"] == "off" else "stream/1"
        end = time.monotonic() + STARTING_TIME
        while not any(wanted in node.features for node in caller.nodes()):
            result = caller.send(Ask("ready?"), timeout=5.0)
            if time.monotonic() > end:
                raise ServerFailedError(f"the node does not offer {wanted}: {result.error}")
            time.sleep(0.05)
        yield caller


def check_way(caller: ClusterMediator, stream: str) -> None:
    """
    Check that calls go over streams where they are measured, and by POST where those are.

    Raises:
        ServerFailedError: They go another way; the text says which.
    """
    way = caller.explain(Ask("which way?")).way
    if (way == "over a stream") != (stream == "on"):
        raise ServerFailedError(f"the calls go {way}")


def security(name: str) -> Mapping[str, Any]:
    """Return the options of one kind of security, for both sides: ``key`` is what comes by itself on one machine."""
    return {"key": {}, "secret": {"secret": "benchmarks-" * 4}, "insecure": {"insecure": True}}[name]


def app() -> object:
    """Return the app, a blueprint of Flask, for gunicorn."""
    from flask import Flask

    from catga_sync.integrations.flask import cluster_blueprint

    flask = Flask(__name__)
    flask.register_blueprint(cluster_blueprint(node()))
    return flask


def middleware() -> object:
    """Return the same node without a framework: the middleware, in front of an app that is never asked."""
    from catga_sync.integrations.wsgi import ClusterMiddleware

    def behind(environ: Any, start_response: Any) -> list[bytes]:
        raise AssertionError(environ["PATH_INFO"])

    return ClusterMiddleware(behind, node())


def node(scheme: str = "http") -> ClusterMediator:
    local, released, held = Mediator(), threading.Event(), []
    local.register(Ask, answer)

    def hold(request: Hold) -> Told:
        held.append(request)
        released.wait(HOLDING_TIME)
        return Told("")

    def release(request: Release) -> Told:
        if request.now:
            released.set()
        return Told(str(len(held)))

    local.register(Hold, hold)
    local.register(Release, release)
    port = os.environ["BENCH_PORT"]
    options = dict(security(os.environ.get("BENCH_SECURITY", "key")))
    return create_cluster(
        local,
        node_id=f"node-{port}",
        endpoint=f"{scheme}://127.0.0.1:{port}",
        discovery="memory://bench",
        max_streams=MANY,
        max_concurrency=MANY,
        environ={},
        **options,
    )
