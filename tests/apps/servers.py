"""The two shops as real nodes: prepared, started by gunicorn or Flask's server, asked by a client, drained.

    shop = Shop(FLASK, tmp_path)
    shop.prepare()
    with shop, shop.client() as client:
        client.send(PlaceOrder("1"))

Whatever a test did, the servers are gone when the ``with`` block is left.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.serving import make_server

from catga_sync import ClusterMediator, Mediator, create_cluster
from tests import processes
from tests.external.postgres_server import PostgresServer
from tests.processes import until

__all__ = ["DJANGO", "DJANGO_APP", "FLASK", "Shop", "serving"]

#: The Django project behind ``ClusterMiddleware``, the one with the Django app, and the Flask app.
DJANGO, DJANGO_APP, FLASK = "django_project", "django_node", "flask"

_ROOT = Path(__file__).parents[2]
_FACTORY = "tests.apps.flask_project.app:create_app()"


@contextlib.contextmanager
def serving(app: Flask, port: int, *, threaded: bool = True) -> Iterator[None]:
    """Serve an app from this process until the block is left, from one thread if it is not ``threaded``."""
    server = make_server("127.0.0.1", port, app, threaded=threaded)
    loop = {"poll_interval": 0.05}
    thread = threading.Thread(target=server.serve_forever, kwargs=loop, name=f"server-{port}")
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Shop:
    """
    One node with orders and a stock. Not thread-safe.

    Args:
        kind: ``DJANGO``, ``DJANGO_APP`` or ``FLASK``.
        folder: For the discovery file, and for the database unless there is a server.
        options: Of gunicorn; without any it is Flask's own server, or Django's.
        postgres: The server of the database; None means an SQLite file.
        database: Its name, or that of the file.
        fresh: Whether its processes begin with nothing imported, see ``processes.running()``.
        environment: Of its processes.
    """

    def __init__(
        self,
        kind: str,
        folder: Path,
        *options: str,
        postgres: PostgresServer | None = None,
        database: str = "shop",
        fresh: bool = False,
        **environment: str,
    ) -> None:
        self.port = processes.free_port()
        self.cluster_name = f"apps-{uuid.uuid4().hex[:12]}"
        self.discovery = f"sqlite:///{folder / 'nodes.sqlite3'}"
        self._kind = kind
        self._options = options
        self._fresh = fresh
        node = {
            "CATGA_NODE_ID": "shop",
            "CATGA_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "CATGA_CLUSTER_NAME": self.cluster_name,
            "CATGA_DISCOVERY": self.discovery,
        }
        if kind != FLASK:
            place = {"SHOP_DATABASE": database if postgres else str(folder / f"{database}.sqlite3")}
            if postgres is not None:
                place["SHOP_DATABASE_PORT"] = str(postgres.port)
            self._environment = {
                **node,
                **place,
                "DJANGO_SETTINGS_MODULE": f"tests.apps.{kind}.settings",
                **environment,
            }
            self._prepare = ["-m", "django", "migrate", "--verbosity", "0"]
        else:
            uri = f"sqlite:///{folder / f'{database}.sqlite3'}"
            if postgres is not None:
                uri = f"postgresql+psycopg://app@127.0.0.1:{postgres.port}/{database}"
            node = {f"FLASK_{name}": value for name, value in node.items()}
            self._environment = {**node, "FLASK_SQLALCHEMY_DATABASE_URI": uri, **environment}
            self._prepare = ["-m", "flask", "--app", _FACTORY, "init-db"]
        self._around = contextlib.ExitStack()
        self._process: processes.Process | None = None

    @property
    def process(self) -> processes.Process:
        assert self._process is not None, "not started"
        return self._process

    def prepare(self) -> None:
        """Make the tables."""
        self._run(*self._prepare)

    def __enter__(self) -> Shop:
        if self._options:
            app = _FACTORY if self._kind == FLASK else f"tests.apps.{self._kind}.wsgi:application"
            command = ["gunicorn", "-b", f"127.0.0.1:{self.port}", *self._options, app]
        elif self._kind != FLASK:
            command = ["django", "runserver", "--noreload", str(self.port)]
        else:
            command = ["flask", "--app", _FACTORY, "run", "-p", str(self.port)]
        self._process = self._around.enter_context(
            processes.running(
                [sys.executable, "-m", *command],
                port=self.port,
                cwd=_ROOT,
                env=self._environment,
                timeout=60.0,
                fresh=self._fresh,
            )
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._around.close()

    @contextlib.contextmanager
    def client(self, **options: Any) -> Iterator[ClusterMediator]:
        """Give a mediator of this process that sees the shop, until the block is left."""
        given = {
            "node_id": "client",
            "cluster_name": self.cluster_name,
            "discovery": self.discovery,
            "heartbeat_interval": 0.5,
        }
        with create_cluster(Mediator(), **{**given, **options}) as made:
            until(lambda: [node.node_id for node in made.nodes()] == ["shop"], "the shop is visible", 60.0)
            yield made

    def drain(self) -> None:
        """Take it out of the cluster as an operator would, before a stop."""
        self._run("-m", "catga_sync", "drain", "shop", "--discovery", self.discovery, "--cluster", self.cluster_name)

    def _run(self, *command: str) -> None:
        done = processes.run(*command, cwd=_ROOT, env=self._environment)
        assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
