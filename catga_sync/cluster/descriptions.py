"""Descriptions of nodes of which only the address is known: those of a static list, or of Kubernetes.

A node that never responds on the describe route (a .NET node, say) counts as one that may handle any type. The
reason is logged once for each cause: at once if a response came back, and for a silent node at the next attempt.
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
#: Causes of one node that are logged until it has described itself; each attempt may bring another one.
_MOST_TOLD = 10

_log = logging.getLogger(__name__)


class Descriptions:
    """
    Keeps the descriptions of nodes. ``of`` and ``troubles`` are for any thread, ``ask`` for one at a time.

    Args:
        describe: Asks a node; returns a ``Trouble`` when it says nothing, or None for an unknown reason.
        clock: Decides when to ask again.
    """

    def __init__(self, describe: Callable[[ClusterNode], Mapping[str, Any] | Trouble | None], clock: Clock) -> None:
        self._describe = describe
        self._clock = clock
        #: endpoint -> the node as it described itself last, and the monotonic time to ask again
        self._said: dict[str, ClusterNode] = {}
        self._due: dict[str, float] = {}
        #: endpoint -> node id and why it did not describe itself when it was asked last
        self._troubles: dict[str, tuple[str, Trouble]] = {}
        #: endpoint -> the cause that was logged last, and how many were since the node has described itself
        self._told: dict[str, tuple[Trouble | None, int]] = {}

    @property
    def troubles(self) -> tuple[tuple[str, str], ...]:
        """Node id and reason, for every node that did not describe itself when it was asked last."""
        return tuple((node_id, str(trouble)) for node_id, trouble in list(self._troubles.values()))

    def of(self, node: ClusterNode) -> ClusterNode:
        """Return the node as it describes itself, under the id and endpoint by which it is known here."""
        said = self._said.get(node.endpoint or "")
        if said is None:
            return node
        return replace(said, node_id=node.node_id, endpoint=node.endpoint, signed=node.signed)

    def ask(self, nodes: Iterable[ClusterNode]) -> bool:
        """Ask the nodes that are due; return whether any description is new. Takes as long as the nodes take."""
        news = False
        asked = {node.endpoint: node for node in nodes if node.endpoint is not None}
        for gone in [endpoint for endpoint in self._due if endpoint not in asked]:
            for kept in (self._due, self._said, self._troubles, self._told):
                kept.pop(gone, None)
        for endpoint, node in asked.items():
            if self._clock.monotonic() < self._due.get(endpoint, float("-inf")):
                continue
            told = self._read(node, self._describe(node))
            self._due[endpoint] = self._clock.monotonic() + INTERVAL
            if isinstance(told, ClusterNode):
                self._answered(endpoint, node)
                news = news or told != self._said.get(endpoint)
                self._said[endpoint] = told
            elif told is not None:
                self._failed(endpoint, node, told)
        return news

    def _read(self, node: ClusterNode, said: Mapping[str, Any] | Trouble | None) -> ClusterNode | Trouble | None:
        if said is None or isinstance(said, Trouble):
            return said
        try:
            return NodeRecord.from_mapping({**said, "nodeId": node.node_id, "endpoint": node.endpoint}).node
        except ConfigurationError as exc:
            found, cure = f"it describes itself wrongly ({str(exc)[:200]})", "which version of catga_sync does it run?"
            return Trouble(f"GET {node.endpoint}{NODE_PATH}", found, cure)

    def _answered(self, endpoint: str, node: ClusterNode) -> None:
        self._troubles.pop(endpoint, None)
        if self._told.pop(endpoint, None) is not None:
            _log.info("node %s at %s describes itself now", node.node_id, endpoint)

    def _failed(self, endpoint: str, node: ClusterNode, trouble: Trouble) -> None:
        first = endpoint not in self._troubles
        self._troubles[endpoint] = (node.node_id, trouble)
        # A node that starts, or is busy for a moment, is silent as well; its last description holds meanwhile.
        if trouble.is_silence and (first or endpoint in self._said):
            return
        last, count = self._told.get(endpoint, (None, 0))
        if trouble != last and count < _MOST_TOLD:
            self._told[endpoint] = trouble, count + 1
            _log.warning("node %s does not describe itself: %s", node.node_id, trouble)
