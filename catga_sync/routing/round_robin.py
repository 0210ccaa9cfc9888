"""Routes to each node in turn."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

from catga_sync.nodes import ClusterNode

__all__ = ["RoundRobinRouter"]


class RoundRobinRouter:
    """
    Picks the nodes in turn. Thread-safe: ``itertools.count`` gives every caller its own number.

    Every message type has its own counter: with a shared one, two types sent alternately would each always go to the
    same one of two nodes.

    .. versionadded:: 0.1
    """

    def __init__(self) -> None:
        self._turns: defaultdict[type, itertools.count[int]] = defaultdict(itertools.count)

    def route(self, message: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        """See ``Router``."""
        return nodes[next(self._turns[type(message)]) % len(nodes)]
