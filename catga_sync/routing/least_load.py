"""Routes to the node that reports the lowest load."""

from __future__ import annotations

from typing import Any

from catga_sync.nodes import ClusterNode
from catga_sync.routing.candidates import PerType, reported_load
from catga_sync.routing.outstanding import Outstanding

__all__ = ["LeastLoadRouter"]


class LeastLoadRouter:
    """
    Picks the node that reports the lowest load; of equal nodes the one with the fewest calls of this process in flight.

    A report is as old as the last heartbeat, and until the next one every process sends all its calls to the same node.
    So this is for few, long calls; ``p2c-ewma`` and ``weighted-round-robin`` spread many calls. Thread-safe.

    .. versionadded:: 0.1
    """

    def __init__(self) -> None:
        self._outstanding = Outstanding()
        self._idlest = PerType(_idlest)

    def route(self, message: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        """See ``Router``."""
        return self._outstanding.take(type(message), self._idlest.of(message, nodes))

    def completed(self, node: ClusterNode, message: Any, result: Any, elapsed: float) -> None:
        """See ``Router``: the call has ended, whatever the result."""
        self._outstanding.end(node.node_id)

    def withdraw(self, node: ClusterNode, message: Any) -> None:
        """See ``Router``."""
        self._outstanding.end(node.node_id)


def _idlest(nodes: tuple[ClusterNode, ...]) -> tuple[ClusterNode, ...]:
    loads = [reported_load(node) for node in nodes]
    lowest = min(loads)
    return tuple(node for node, load in zip(nodes, loads, strict=True) if load == lowest)
