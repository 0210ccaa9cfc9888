"""gRPC in the workers of gunicorn, beside the HTTP endpoint of the same node."""

from __future__ import annotations

import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import processes
from tests.conftest import require_module

require_module("grpc")
require_module("gunicorn")

from catga_sync import Mediator, Query, create_cluster, message  # noqa: E402
from catga_sync.hooks import AttemptDetails  # noqa: E402

APP = """
    import os
    from dataclasses import dataclass
    from flask import Flask
    from catga_sync import Mediator, Query, create_cluster, message
    from catga_sync.integrations.flask import cluster_blueprint

    @message(name="grpc.WhichProcess")
    @dataclass(frozen=True)
    class WhichProcess(Query[int]):
        number: int

    local = Mediator()

    @local.handler
    def answer(request: WhichProcess) -> int:
        return os.getpid()

    mediator = create_cluster(
        local,
        node_id="users",
        endpoint="http://127.0.0.1:{http}",
        grpc_endpoint="grpc://127.0.0.1:{grpc}",
        discovery="sqlite:///{store}",
    )
    app = Flask(__name__)
    app.register_blueprint(cluster_blueprint(mediator))
"""
CONF = """
    from catga_sync.integrations import gunicorn

    def post_worker_init(worker):
        gunicorn.post_worker_init(worker)
        from catga_sync.integrations.grpc import serve_grpc
        from served_by_both import mediator

        worker.grpc = serve_grpc(mediator, shared_port=True)

    def worker_exit(server, worker):
        worker.grpc.stop(10)
"""


@message(name="grpc.WhichProcess")
@dataclass(frozen=True)
class WhichProcess(Query[int]):
    number: int


class Ways:
    """Notes how attempts travel."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_attempt(self, details: AttemptDetails) -> None:
        self.seen.append(details.way)


@pytest.mark.process
@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])
def test_each_worker_serves_grpc_on_one_port(preload: list[str], tmp_path: Path) -> None:
    ports = {"http": processes.free_port(), "grpc": processes.free_port(), "store": tmp_path / "store.sqlite3"}
    (tmp_path / "served_by_both.py").write_text(textwrap.dedent(APP.format(**ports)))
    (tmp_path / "conf.py").write_text(textwrap.dedent(CONF))
    bind = ["-b", f"127.0.0.1:{ports['http']}", "-c", "conf.py"]
    workers = ["-w", "2", "-k", "gthread", "--threads", "4", *preload]
    command = [sys.executable, "-m", "gunicorn", *bind, *workers, "served_by_both:app"]
    ways, store = Ways(), f"sqlite:///{ports['store']}"
    with processes.running(command, port=int(str(ports["http"])), cwd=tmp_path) as server:
        with create_cluster(Mediator(), node_id="web", discovery=store, environ={}, hooks=[ways]) as web:
            processes.until(lambda: (web.nodes() and web.nodes()[0].concurrency) or None, "the node is visible")
            results = [web.send(WhichProcess(number)) for number in range(5)]
        # A connection goes to one worker, and with it all the calls of a caller.
        (worker,) = {result.unwrap() for result in results}
        assert worker != server.pid
        assert ways.seen == ["grpc"] * 5
        server.signal(15)
        assert server.popen.wait(30) == 0
