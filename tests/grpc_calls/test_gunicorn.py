"""gRPC in the workers of gunicorn, beside the HTTP endpoint of the same node."""

from __future__ import annotations

import os
import re
import signal
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
from catga_sync.integrations import gunicorn as gunicorn_hooks  # noqa: E402

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


def config_of_the_docs(module: str, log: Path) -> str:
    """Return the ``gunicorn.conf.py`` of docs/grpc.md, for the app in a module; it notes what is in it."""
    page = (Path(__file__).parents[2] / "docs" / "grpc.md").read_text()
    (block,) = re.findall(r"```python no-run\n(# gunicorn\.conf\.py\n.*?)```", page, re.DOTALL)
    assert block.count("from users import") == 1
    noted = f"""
        from pathlib import Path

        def on_exit(server):
            Path({str(log)!r}).write_text(" ".join(name for name in gunicorn.__all__ if callable(globals().get(name))))
    """
    return block.replace("from users import", f"from {module} import") + textwrap.dedent(noted)


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
@pytest.mark.parametrize(
    "preload", [pytest.param([], id="", marks=pytest.mark.slow), pytest.param(["--preload"], id="preload")]
)
def test_each_worker_serves_grpc_on_one_port(preload: list[str], tmp_path: Path) -> None:
    ports = {"http": processes.free_port(), "grpc": processes.free_port(), "store": tmp_path / "store.sqlite3"}
    (tmp_path / "served_by_both.py").write_text(textwrap.dedent(APP.format(**ports)))
    log = tmp_path / "hooks"
    (tmp_path / "conf.py").write_text(config_of_the_docs("served_by_both", log))
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
        # The main process of gunicorn notices a worker that was killed.
        os.kill(worker, signal.SIGKILL)
        with create_cluster(Mediator(), node_id="web", discovery=store, environ={}) as web:
            asked = lambda: web.send(WhichProcess(9), timeout=5).value not in (None, worker) or None  # noqa: E731
            processes.until(asked, "another worker serves")
        server.signal(15)
        # A worker that gunicorn was just starting misses the signal, and is ended after 30 s.
        assert server.popen.wait(60) == 0
    assert log.read_text().split() == gunicorn_hooks.__all__
