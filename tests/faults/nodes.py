"""Gunicorn nodes for fault tests: start, kill, pause, start again on the same port.

    with Nodes(tmp_path) as nodes:
        a, b, c = nodes.start("a", "b", "c")
        with nodes.client() as client: ...
        b.kill()
        b.start()

Rules of this file:
1. Signals go to process groups by their id; nothing is looked for by its name.
2. Whatever a test did to a node, it is gone when the ``with`` block is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from catga_sync import ClusterMediator, Mediator, create_cluster
from tests import processes
from tests.external.redis_server import RedisServer, require_redis
from tests.faults import ledger
from tests.faults.ledger import Verdict
from tests.processes import until

__all__ = ["HEARTBEAT", "HEARTBEAT_TIMEOUT", "Node", "Nodes", "redis_server"]

_ROOT = Path(__file__).parents[2]
#: Seconds: a fraction of what is standard, so that tests need not wait, and more than a busy machine stands still.
HEARTBEAT, HEARTBEAT_TIMEOUT = 0.5, 5.0


def redis_server() -> RedisServer:
    """Return a Redis server, not started; skips the test where there is none."""
    require_redis()
    return RedisServer()


class Node:
    """
    One node. Not thread-safe.

    Args:
        name: Its id.
        options: Of gunicorn, beside ``-k gthread``.
        environment: Of its processes.
        app: What gunicorn serves; None means that the node serves gRPC, without gunicorn.
        scheme: Of its endpoint.
    """

    def __init__(
        self,
        name: str,
        *options: str,
        environment: dict[str, str],
        app: str | None = "tests.faults.app:app",
        scheme: str = "http",
    ) -> None:
        self.name = name
        self._app = app
        self._scheme = scheme
        self.port = processes.free_port()
        #: Where it says it is, if that is not its own port: something stands in front of it.
        self.front: str | None = None
        self._options = ("--threads", "8", *options)
        self._environment = environment
        self._run = contextlib.ExitStack()
        self._process: processes.Process | None = None

    @property
    def endpoint(self) -> str:
        """Where it answers."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def process(self) -> processes.Process:
        assert self._process is not None, "not started"
        return self._process

    def start(self, **environment: str) -> float:
        """Start it, on the port it had; return the moment at which its port was found open."""
        env = {
            "CATGA_NODE_ID": self.name,
            "CATGA_ENDPOINT": self.front or self.endpoint,
            **self._environment,
            **environment,
        }
        command = [sys.executable, "-m", "tests.faults.grpc_app"]
        if self._app is not None:
            command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{self.port}", "-k", "gthread"]
            command += ["-c", "python:catga_sync.integrations.gunicorn", *self._options, self._app]
        # The last requests of a killed node may still be there: gunicorn binds with SO_REUSEADDR.
        until(lambda: processes.port_is_free(self.port), f"port {self.port} is free again")
        self._process = self._run.enter_context(processes.running(command, port=self.port, cwd=_ROOT, env=env))
        return time.monotonic()

    def kill(self) -> float:
        """End all its processes as a power failure would; return when."""
        os.killpg(self.process.pid, signal.SIGKILL)
        killed = time.monotonic()
        self.process.popen.wait()
        group = self.process.pid
        until(lambda: processes.group_is_gone(group), f"the processes of {self.name} are gone")
        return killed

    def stop(self) -> None:
        """End it as an operator would. Does nothing to one that is not there."""
        self._process = None
        self._run.close()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Have all its processes hang, with their connections open, until the block is left."""
        with processes.stopped(self.process.pid):
            yield


class Nodes:
    """
    The nodes of one cluster, with their ledgers.

    Args:
        folder: For the ledgers, and the discovery file if no other discovery is given.
        environment: Of all nodes; ``CATGA_*`` variables are options.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.cluster_name = f"faults-{uuid.uuid4().hex[:12]}"
        self.ran = folder / "ran"
        self.told = folder / "told"
        self.environment = {
            "LEDGER": str(self.ran),
            "CATGA_CLUSTER_NAME": self.cluster_name,
            "CATGA_DISCOVERY": f"sqlite:///{folder / 'nodes.sqlite3'}",
            "CATGA_HEARTBEAT_INTERVAL": str(HEARTBEAT),
            "CATGA_HEARTBEAT_TIMEOUT": str(HEARTBEAT_TIMEOUT),
            **environment,
        }
        self._nodes: list[Node] = []

    def __enter__(self) -> Nodes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all nodes as an operator would, at the same time."""
        with ThreadPoolExecutor(len(self._nodes) or 1) as pool:
            list(pool.map(Node.stop, self._nodes))

    def add(
        self,
        name: str,
        *,
        options: tuple[str, ...] = (),
        app: str | None = "tests.faults.app:app",
        scheme: str = "http",
        **environment: str,
    ) -> Node:
        """Return a node that is not started; see ``Node``."""
        node = Node(name, *options, environment={**self.environment, **environment}, app=app, scheme=scheme)
        self._nodes.append(node)
        return node

    def start(self, *names: str, options: tuple[str, ...] = (), **environment: str) -> list[Node]:
        """Start nodes with these names, at the same time."""
        nodes = [self.add(name, options=options, **environment) for name in names]
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(lambda node: node.start(), nodes))
        return nodes

    def client(self, **options: Any) -> ClusterMediator:
        """Return a mediator of this process that sends; close it."""
        given = {
            "node_id": "client",
            "router": "round-robin",
            "cluster_name": self.cluster_name,
            "discovery": self.environment["CATGA_DISCOVERY"],
            "heartbeat_interval": float(self.environment["CATGA_HEARTBEAT_INTERVAL"]),
            "heartbeat_timeout": float(self.environment["CATGA_HEARTBEAT_TIMEOUT"]),
        }
        return create_cluster(Mediator(), **{**given, **options})

    def see(self, client: ClusterMediator, *names: str) -> None:
        """Wait until a client sees exactly these nodes."""
        until(lambda: sorted(each.node_id for each in client.nodes()) == sorted(names), f"exactly {names} are visible")

    def wrong(self, told: list[Verdict] | None = None) -> list[str]:
        """Return in words where the two ledgers do not fit. Call it when nothing runs any more."""
        return ledger.check(ledger.executions(self.ran), ledger.verdicts(self.told) if told is None else told)
