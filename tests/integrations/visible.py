"""What the tests of visibility share: nodes and servers in this process, and the warning that they wait for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask

from catga_sync import ClusterMediator, Mediator, Query, create_cluster
from catga_sync.cluster import peers, presence, visibility
from catga_sync.discovery import MemoryDiscovery
from catga_sync.integrations.flask import cluster_blueprint
from tests.processes import until

__all__ = ["Ask", "app_of", "node", "reason_of", "warn_soon"]


@dataclass(frozen=True)
class Ask(Query[int]):
    pass


def warn_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nodes tell sooner than they do why they are not visible, and take a busy machine for no silent server."""
    monkeypatch.setattr(visibility, "GRACE", 0.3)
    monkeypatch.setattr(presence, "_PROBE_TIMEOUT", 20.0)
    monkeypatch.setattr(peers, "_TIMEOUT", 20.0)


@contextlib.contextmanager
def node(endpoint: str, node_id: str = "node-1", **options: Any) -> Iterator[ClusterMediator]:
    options = {"discovery": MemoryDiscovery(), **options}
    with create_cluster(Mediator(), node_id=node_id, endpoint=endpoint, **options) as made:
        yield made


def app_of(mediator: ClusterMediator, prepare: Callable[[Flask], object] = lambda app: None, **options: Any) -> Flask:
    app = Flask(__name__, **options)
    prepare(app)
    app.register_blueprint(cluster_blueprint(mediator))
    return app


def reason_of(mediator: ClusterMediator, caplog: pytest.LogCaptureFixture) -> str:
    """Wait for the warning; check that the mediator says the same, and return it."""

    def told() -> list[str] | None:
        lines = [each.getMessage() for each in caplog.records]
        return [line for line in lines if "is not visible to other nodes" in line] or None

    (line,) = until(told, "a warning that tells why the node is not visible")
    assert line == f"node node-1 is not visible to other nodes: {mediator.trouble}"
    assert f"this node is not visible to other nodes: {mediator.trouble}" in str(mediator.explain(Ask()))
    assert mediator.nodes() == ()
    return line
