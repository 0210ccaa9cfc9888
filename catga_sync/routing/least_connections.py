"""Routes to the node with the fewest calls in flight."""

from __future__ import annotations

from typing import Any

from catga_sync.nodes import ClusterNode
from catga_sync.routing.outstanding import Outstanding

__all__ = ["LeastConnectionsRouter"]


class LeastConnectionsRouter:
    """
    Picks the node with the fewest calls of this process in flight, equal nodes in turn. Thread-safe.

    .. versionadded:: 0.1
    """

    def __init__(self) -> None:
        self._outstanding = Outstanding()

    def route(self, message: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        """See ``Router``."""
        return self._outstanding.take(type(message), nodes)

    def completed(self, node: ClusterNode, message: Any, result: Any, elapsed: float) -> None:
        """See ``Router``: the call has ended, whatever the result."""
        self._outstanding.end(node.node_id)

    def withdraw(self, node: ClusterNode, message: Any) -> None:
        """See ``Router``."""
        self._outstanding.end(node.node_id)
