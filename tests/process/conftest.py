"""A cluster's name and a client of it, for tests with nodes of ``tests/process/nodes.py``."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from catga_sync import ClusterMediator, Mediator, create_cluster
from tests.process.nodes import default_file


@pytest.fixture
def cluster_name() -> str:
    return f"tests-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def client(cluster_name: str) -> Iterator[ClusterMediator]:
    with create_cluster(
        Mediator(),
        node_id="client",
        cluster_name=cluster_name,
        discovery=default_file(cluster_name),
        router="round-robin",
    ) as mediator:
        yield mediator
