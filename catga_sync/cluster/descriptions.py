"""What nodes of which only the address is known say of themselves: those of a static list, or of Kubernetes.

A node that never answers the describe route (a .NET node, say) stays one that may handle any type.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from catga_sync._clock import Clock
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import ClusterNode, NodeRecord

__all__ = ["Descriptions"]

#: Seconds between two attempts to have a node describe itself.
INTERVAL = 5.0

_log = logging.getLogger(__name__)


class Descriptions:
    """
    Keep what nodes said. ``of`` is for any thread, ``ask`` for one at a time.

    Args:
        describe: Asks a node; None when it says nothing.
        clock: Tells when to ask again.
    """

    def __init__(self, describe: Callable[[ClusterNode], Mapping[str, Any] | None], clock: Clock) -> None:
        self._describe = describe
        self._clock = clock
        #: endpoint -> the last description that came, and the monotonic time to ask again
        self._said: dict[str, Mapping[str, Any]] = {}
        self._due: dict[str, float] = {}

    def of(self, node: ClusterNode) -> ClusterNode:
        """Return the node as it describes itself, under the id and endpoint by which it is known here."""
        said = self._said.get(node.endpoint or "")
        if said is None:
            return node
        try:
            told = NodeRecord.from_mapping({**said, "nodeId": node.node_id, "endpoint": node.endpoint}).node
        except ConfigurationError as exc:
            _log.warning("node %s at %s describes itself wrongly: %s", node.node_id, node.endpoint, exc)
            del self._said[node.endpoint or ""]
            return node
        return told

    def ask(self, nodes: Iterable[ClusterNode]) -> bool:
        """Ask the nodes whose turn it is; return whether any of them said something new. Takes as long as they take."""
        news = False
        asked = {node.endpoint: node for node in nodes if node.endpoint is not None}
        for gone in [endpoint for endpoint in self._due if endpoint not in asked]:
            self._due.pop(gone)
            self._said.pop(gone, None)
        for endpoint, node in asked.items():
            if self._clock.monotonic() < self._due.get(endpoint, float("-inf")):
                continue
            said = self._describe(node)
            self._due[endpoint] = self._clock.monotonic() + INTERVAL
            if said is not None and said != self._said.get(endpoint):
                self._said[endpoint] = said
                news = True
        return news
