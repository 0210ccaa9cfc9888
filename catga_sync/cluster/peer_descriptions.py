"""Descriptions of other nodes that are listed by address only: in a static list, or in Kubernetes.

A node that never responds on the describe route, such as a .NET node, counts as one that may handle any type. Each
cause is logged once: at once if a response came back, and for a silent node at the next attempt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from catga_sync._clock import Clock
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import ClusterNode, NodeRecord
from catga_sync.transport.http.diagnosis import Trouble
from catga_sync.wire.routes import NODE_PATH

__all__ = ["Descriptions"]

#: Seconds between two attempts to have a node describe itself.
INTERVAL = 5.0
#: Most warnings for one node before it describes itself; each attempt may bring another cause.
_MOST_WARNINGS = 10

_log = logging.getLogger(__name__)


class Descriptions:
    """
    Keeps the descriptions of nodes. ``of`` and ``troubles`` are thread-safe; only one thread may call ``ask``.

    Args:
        describe: Returns the description of a node, or else why there is none; None means for an unknown reason.
        clock: Decides when to ask again.
    """

    def __init__(self, describe: Callable[[ClusterNode], Mapping[str, Any] | Trouble | None], clock: Clock) -> None:
        self._describe = describe
        self._clock = clock
        #: endpoint -> the node as it described itself last, and the monotonic time to ask again
        self._described: dict[str, ClusterNode] = {}
        self._due: dict[str, float] = {}
        #: endpoint -> node id and why it did not describe itself when it was asked last
        self._troubles: dict[str, tuple[str, Trouble]] = {}
        #: endpoint -> the cause that was logged last, and the number of warnings since the node last described itself
        self._logged: dict[str, tuple[Trouble | None, int]] = {}

    @property
    def troubles(self) -> tuple[tuple[str, str], ...]:
        """Node id and reason, for every node that did not describe itself when it was asked last."""
        return tuple((node_id, str(trouble)) for node_id, trouble in list(self._troubles.values()))

    def of(self, node: ClusterNode) -> ClusterNode:
        """Return the node as it describes itself, under the id and endpoint by which it is known here."""
        described = self._described.get(node.endpoint or "")
        if described is None:
            return node
        return replace(described, node_id=node.node_id, endpoint=node.endpoint, signed=node.signed)

    def ask(self, nodes: Iterable[ClusterNode]) -> bool:
        """Ask the nodes that are due; return whether a description is new. Blocks until all responded or timed out."""
        news = False
        asked = {node.endpoint: node for node in nodes if node.endpoint is not None}
        for gone in [endpoint for endpoint in self._due if endpoint not in asked]:
            for kept in (self._due, self._described, self._troubles, self._logged):
                kept.pop(gone, None)
        for endpoint, node in asked.items():
            if self._clock.monotonic() < self._due.get(endpoint, float("-inf")):
                continue
            found = self._read(node, self._describe(node))
            self._due[endpoint] = self._clock.monotonic() + INTERVAL
            if isinstance(found, ClusterNode):
                self._described_itself(endpoint, node)
                news = news or found != self._described.get(endpoint)
                self._described[endpoint] = found
            elif found is not None:
                self._failed(endpoint, node, found)
        return news

    def _read(self, node: ClusterNode, found: Mapping[str, Any] | Trouble | None) -> ClusterNode | Trouble | None:
        if found is None or isinstance(found, Trouble):
            return found
        try:
            return NodeRecord.from_mapping({**found, "nodeId": node.node_id, "endpoint": node.endpoint}).node
        except ConfigurationError as exc:
            what, cure = f"its description is invalid ({str(exc)[:200]})", "check its catga_sync version"
            return Trouble(f"GET {node.endpoint}{NODE_PATH}", what, cure)

    def _described_itself(self, endpoint: str, node: ClusterNode) -> None:
        self._troubles.pop(endpoint, None)
        if self._logged.pop(endpoint, None) is not None:
            _log.info("node %s at %s describes itself now", node.node_id, endpoint)

    def _failed(self, endpoint: str, node: ClusterNode, trouble: Trouble) -> None:
        first = endpoint not in self._troubles
        self._troubles[endpoint] = (node.node_id, trouble)
        # A node that starts, or is busy for a moment, is silent too; its last description stays valid meanwhile.
        if trouble.is_silence and (first or endpoint in self._described):
            return
        last, count = self._logged.get(endpoint, (None, 0))
        if trouble != last and count < _MOST_WARNINGS:
            self._logged[endpoint] = trouble, count + 1
            _log.warning("node %s does not describe itself: %s", node.node_id, trouble)
