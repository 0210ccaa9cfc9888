"""A real Prometheus for tests, the queries of the dashboard, and a cluster that gives it something to see.

    with Watched(folder) as cluster:
        cluster.prometheus.query("sum(catga_nodes)")

Rules of this file:
1. ``require_prometheus`` skips where there is none, and fails in CI.
2. Prometheus scrapes the nodes as in production, only more often: what an expression gives, Prometheus says.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from catga_sync import ClusterMediator, Mediator, create_cluster
from tests import processes
from tests.conftest import require_module, require_service
from tests.process.messages import Ask, Do, Fail
from tests.process.nodes import ROOT, node, wait_for
from tests.processes import Process, free_port, get, port_is_free, running, until
from tests.unit.serving import serving_app

__all__ = [
    "ALERTS",
    "FOLDER",
    "SCRAPE_SECONDS",
    "Prometheus",
    "Watched",
    "panels",
    "require_prometheus",
    "resolved",
    "titles",
]

FOLDER = ROOT / "docs" / "observability"
ALERTS = FOLDER / "alerts.yml"
SCRAPE_SECONDS = 0.5
SECRET = "a secret that is long enough for it"


def require_prometheus() -> None:
    """Go on if Prometheus and promtool are there; call it at the top of a test module."""
    __tracebackhide__ = True
    require_module("gunicorn")
    require_module("prometheus_client")
    for program in ("prometheus", "promtool"):
        require_service(shutil.which(program) is not None, f"needs {program}: apt install prometheus, or alike")


def _dashboard() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    return found


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard that draw something."""
    return [panel for panel in _dashboard() if panel["type"] != "row"]


def titles() -> list[dict[str, Any]]:
    """Return the rows of the dashboard: the titles above its panels."""
    return [panel for panel in _dashboard() if panel["type"] == "row"]


def resolved(query: str, interval: str) -> str:
    """Return a query of the dashboard as Grafana sends it: for all instances, with rates over ``interval``."""
    return query.replace("$__rate_interval", interval).replace("$instance", ".*")


@dataclass(frozen=True)
class Prometheus:
    """A running server. Thread-safe."""

    url: str

    def ask(self, path: str, **given: Any) -> Any:
        """Return the data of a response of its HTTP API."""
        with requests.Session() as session:
            session.trust_env = False
            response = session.get(f"{self.url}/api/v1/{path}", params=given, timeout=20)
        assert response.status_code == 200, response.text
        return response.json()["data"]

    def query(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Return the labels and the value of each series, now."""
        return [(each["metric"], float(each["value"][1])) for each in self.ask("query", query=query)["result"]]

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {each["labels"]["alertname"] for each in self.ask("alerts")["alerts"] if each["state"] == "firing"}


@contextlib.contextmanager
def prometheus(folder: Path, targets: dict[str, int]) -> Iterator[Prometheus]:
    """Run a Prometheus that has the alert rules and scrapes these instances, by their ports."""
    seconds = f"{SCRAPE_SECONDS * 1000:.0f}ms"
    jobs = [{"targets": [f"127.0.0.1:{port}"], "labels": {"instance": instance}} for instance, port in targets.items()]
    config = {
        "global": {"scrape_interval": seconds, "scrape_timeout": seconds, "evaluation_interval": seconds},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [{"job_name": "catga", "static_configs": jobs}],
    }
    file, port = folder / "prometheus.yml", free_port()
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    command = ["prometheus", "--log.level=warn", f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"]
    with running([*command, f"--web.listen-address=127.0.0.1:{port}"], port=port) as server:
        made = Prometheus(server.url)
        until(lambda: getattr(get(f"{server.url}/-/ready"), "status_code", 0) == 200, "Prometheus is ready")
        yield made


class Watched:
    """
    Two nodes, a caller of them, and a Prometheus that scrapes all three. Calls are made from a thread. Not thread-safe.

    Args:
        folder: For the files of all.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._around = contextlib.ExitStack()
        self._nodes: dict[str, contextlib.ExitStack] = {}
        self._ports = {name: free_port() for name in ("node-1", "node-2")}
        self._over = threading.Event()
        self.processes: dict[str, Process] = {}
        self.failures: list[BaseException] = []

    def __enter__(self) -> Watched:
        with contextlib.ExitStack() as around:
            for name in self._ports:
                self.start(name)
                around.callback(self.kill, name)
            self.caller = self._caller(around)
            wait_for(self.caller, *self._ports)
            self.prometheus = around.enter_context(prometheus(self._folder, {**self._ports, "caller": self._port}))
            thread = threading.Thread(target=self._load, name="load")
            thread.start()
            around.callback(thread.join)
            around.callback(self._over.set)
            self._around = around.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._around.close()

    def start(self, name: str) -> None:
        """Start a node, on the port that it had."""
        stack = self._nodes[name] = contextlib.ExitStack()
        files = {"DISCOVERY": f"sqlite:///{self._folder / 'nodes'}", "IDEMPOTENCY": "memory", "SECRET": SECRET}
        process = node(name, "watched", app="tests.process.metered:app", port=self._ports[name], **files)
        self.processes[name] = stack.enter_context(process)

    def kill(self, name: str) -> None:
        """End a node as a power failure would. Does nothing to one that has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.processes[name].pid, signal.SIGKILL)
        self._nodes[name].close()
        until(lambda: port_is_free(self._ports[name]), "the workers have ended")

    @contextlib.contextmanager
    def hanging(self, name: str) -> Iterator[None]:
        """Have a node hang, with its connections open, until the block is left."""
        with processes.stopped(self.processes[name].pid):
            yield

    def _caller(self, around: contextlib.ExitStack) -> ClusterMediator:
        from prometheus_client import CollectorRegistry

        from catga_sync.observability.prometheus import PrometheusHook, metrics_app

        registry, self._port = CollectorRegistry(), free_port()
        caller = around.enter_context(
            create_cluster(
                Mediator(),
                node_id="caller",
                cluster_name="watched",
                discovery=f"sqlite:///{self._folder / 'nodes'}",
                secret=SECRET,
                hooks=[PrometheusHook(registry)],
            )
        )
        around.enter_context(serving_app(metrics_app(registry), self._port))
        return caller

    def _load(self) -> None:
        """Make calls of several outcomes until it is over."""
        number = 0
        try:
            while not self._over.wait(0.01):
                number += 1
                self.caller.send(Ask(f"{number}"), timeout=0.5)
                self.caller.send(Do(f"{number}"), timeout=0.5)
                if number % 5 == 0:
                    self.caller.send(Fail("raise"), timeout=0.5)
                if number % 10 == 0:
                    with contextlib.suppress(requests.RequestException):  # the node has been killed
                        requests.get(f"{self.processes['node-1'].url}/catga/cluster/invoke", timeout=0.5)
        except BaseException as exc:
            self.failures.append(exc)
