"""This node if it can, else another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from catga_sync.nodes import ClusterNode
from catga_sync.routing.base import Router

__all__ = ["LocalFirstRouter"]


class LocalFirstRouter:
    """
    Take this node while it has room; else ask another router about the rest. Thread-safe.

    Args:
        node_id: The id of this node.
        otherwise: Asked about the other nodes.
        has_room: Tells whether this node takes more work; None means that it always does.

    .. versionadded:: 0.1
    """

    def __init__(self, node_id: str, otherwise: Router, has_room: Callable[[], bool] | None = None) -> None:
        self._node_id = node_id
        self._otherwise = otherwise
        self._has_room = has_room

    def route(self, message: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        """See ``Router``."""
        for node in nodes:
            if node.node_id == self._node_id:
                if len(nodes) == 1 or self._has_room is None or self._has_room():
                    return node
                return self._otherwise.route(message, tuple(other for other in nodes if other is not node))
        return self._otherwise.route(message, nodes)
