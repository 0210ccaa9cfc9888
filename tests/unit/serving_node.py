"""A node of this process without files, for what serves it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from catga_sync import ClusterNode, ClusterOptions, Mediator
from catga_sync._clock import SYSTEM_CLOCK
from catga_sync.cluster.local_node import LocalNode
from catga_sync.cluster.visibility import Visibility
from catga_sync.cluster.worker_group import WorkerGroup
from catga_sync.context import Hop

__all__ = ["counted", "local_node"]


def local_node(node_id: str = "node-1", local: Mediator | None = None, **options: Any) -> LocalNode:
    """Return a node of which no other process knows; ``options`` are those of ``ClusterOptions``."""
    chosen = ClusterOptions(node_id=node_id, **options)
    group = WorkerGroup(_nowhere, node_id)
    visibility = Visibility(node_id, SYSTEM_CLOCK)
    return LocalNode(ClusterNode(node_id, None), local or Mediator(), group, visibility, None, chosen)


@contextlib.contextmanager
def counted(node: LocalNode, patience: float | None = None, chain: Iterable[Hop] = ()) -> Iterator[None]:
    """Have a call run at a node, as ``count_in`` takes it."""
    bounded = node.count_in(patience, chain)
    try:
        yield
    finally:
        node.count_out(bounded)


def _nowhere() -> Path:
    raise OSError("this node has no files")
