"""The nodes of the cluster at one moment, and who of them may take a message."""

from __future__ import annotations

from collections.abc import Mapping

from catga_sync.contracts import fits
from catga_sync.nodes import ClusterNode, NodeStatus

__all__ = ["Snapshot", "reason_against"]


class Snapshot:
    """
    The nodes at one moment. Immutable, thread-safe.

    Args:
        nodes: The other nodes that are not offline, ordered by id.
        this: This node.
    """

    def __init__(self, nodes: tuple[ClusterNode, ...], this: ClusterNode) -> None:
        self.nodes = nodes
        self.by_id: Mapping[str, ClusterNode] = {node.node_id: node for node in nodes}
        self._this = this
        # A cache: two threads that fill the same place at once put equal tuples there.
        self._candidates: dict[tuple[str, str, bool], tuple[ClusterNode, ...]] = {}

    def candidates(self, type_name: str, contract: str, here: bool) -> tuple[ClusterNode, ...]:
        """
        Return the nodes that may take a request of this type; the same object every time.

        Args:
            type_name: Wire name of the request type.
            contract: What this process sends and expects; see ``catga_sync.contracts``.
            here: Whether this node handles it.
        """
        key = (type_name, contract, here)
        found = self._candidates.get(key)
        if found is None:
            fit = [node for node in self.nodes if reason_against(node, type_name, contract) is None]
            well = [node for node in fit if node.status is NodeStatus.ONLINE] or ([] if here else fit)
            chosen = sorted([*well, self._this], key=lambda node: node.node_id) if here else well
            found = self._candidates.setdefault(key, tuple(chosen))
        return found


def reason_against(node: ClusterNode, type_name: str, contract: str) -> str | None:
    """Return in words why a node cannot take a message of this type, or None when it can."""
    if node.status is NodeStatus.DRAINING:
        return "it is going offline"
    if not node.may_handle(type_name):
        return "it does not handle this type"
    theirs = node.contracts.get(type_name)
    if theirs is not None and not fits(contract, theirs):
        return "its form of this type is one that cannot be read from here (see the contracts of both nodes)"
    return None
