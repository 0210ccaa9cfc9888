"""What a router is: it picks one of the nodes that may take a message."""

from __future__ import annotations

from typing import Any, Protocol

from catga_sync.nodes import ClusterNode

__all__ = ["Router"]


class Router(Protocol):
    """
    Picks the node for a message. Called by many threads at once, on the way of every send: quick, no I/O.

    An object may also have ``completed(node, message, result, elapsed)``: it is called once for each routed
    attempt, failed ones too, with the ``CatgaResult`` and the seconds it took.

    .. versionadded:: 0.1
    """

    def route(self, message: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        """
        Return one of ``nodes``.

        Args:
            message: The request that is sent.
            nodes: Those that may take it; never empty, and the same object as long as membership is the same.
        """
