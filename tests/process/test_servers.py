"""The servers of ``docs/servers.md``: a node under each of them is seen, serves, and is gone with it."""

from __future__ import annotations

import gc
import sys

import pytest
from flask import Flask

from catga_sync import Mediator, create_cluster
from catga_sync.integrations.flask import cluster_blueprint
from tests.conftest import require_module
from tests.process.messages import Ask, Do
from tests.process.nodes import ROOT, default_file, node, wait_for
from tests.processes import free_port, running, until

for module in ("gunicorn", "waitress"):
    require_module(module)
psutil = require_module("psutil")

pytestmark = pytest.mark.process

WSGIREF = """
import sys
from wsgiref.simple_server import make_server
from tests.process.app import app
make_server("127.0.0.1", int(sys.argv[1]), app).serve_forever()
"""

SERVERS = {
    "gunicorn gthread": (
        "-m",
        "gunicorn",
        "-b",
        "127.0.0.1:{}",
        "-k",
        "gthread",
        "--threads",
        "4",
        "tests.process.app:app",
    ),
    "gunicorn sync": ("-m", "gunicorn", "-b", "127.0.0.1:{}", "-k", "sync", "-w", "2", "tests.process.app:app"),
    "waitress": ("-m", "waitress", "--listen=127.0.0.1:{}", "tests.process.app:app"),
    "flask run": ("-m", "flask", "--app", "tests.process.app", "run", "--port", "{}"),
    "flask run, reloader": ("-m", "flask", "--app", "tests.process.app", "run", "--port", "{}", "--reload"),
    "wsgiref": ("-c", WSGIREF, "{}"),
}


#: Signatures are headers to a server: one in "make test" passes them on, all of them in "make soak".
CASES = [
    pytest.param(
        SERVERS[name],
        secret,
        id=f"{name}-{'signed' if secret else 'unsigned'}",
        marks=[] if secret is None or name == "gunicorn gthread" else pytest.mark.slow,
    )
    for name in SERVERS
    for secret in (None, "s" * 32)
]


@pytest.mark.parametrize(("server", "secret"), CASES)
def test_a_node_under_this_server_is_seen_serves_and_is_gone_with_it(
    server: tuple[str, ...], secret: str | None, cluster_name: str
) -> None:
    port = free_port()
    command = [sys.executable, *(part.format(port) for part in server)]
    env = {"NODE": "n", "PORT": str(port), "CLUSTER": cluster_name, "PYTHONPATH": str(ROOT)}
    signed = {} if secret is None else {"SECRET": secret}
    with (
        running(command, port=port, cwd=ROOT, env={**env, **signed}) as process,
        create_cluster(
            Mediator(),
            node_id="client",
            cluster_name=cluster_name,
            discovery=default_file(cluster_name),
            secret=secret,
        ) as client,
    ):
        wait_for(client, "n")
        for _ in range(10):
            assert client.send(Ask("x"), timeout=20.0).is_success, process.output()
            assert client.send(Do("x"), timeout=20.0).is_success, process.output()
        assert [each.node_id for each in client.nodes()] == ["n"]
        process.stop()
        wait_for(client)


def test_connections_of_a_mediator_that_is_dropped_with_its_app_are_closed(cluster_name: str) -> None:
    def use() -> Flask:
        app = Flask(__name__)
        mediator = create_cluster(
            Mediator(), node_id="app", cluster_name=cluster_name, discovery=default_file(cluster_name)
        )
        app.register_blueprint(cluster_blueprint(mediator))
        wait_for(mediator, "n")
        assert mediator.send(Ask("x"), timeout=20.0).is_success
        return app

    with node("n", cluster_name, "--keep-alive", "75") as server:

        def connections() -> int:
            held = psutil.Process().net_connections()
            return sum(each.raddr != () and each.raddr.port == server.port for each in held)

        app = use()
        assert connections() >= 1
        del app
        for _ in range(10):
            use()
        until(lambda: gc.collect() is not None and connections() == 0, "no connection is left")
