"""The nodes of the cluster at one moment, and the candidates for a message."""

from __future__ import annotations

from collections.abc import Mapping

from catga_sync.nodes import ClusterNode, NodeStatus
from catga_sync.serialization.contract import differences

__all__ = ["Snapshot", "not_preferred", "reason_against"]

#: Differences of two forms of a type that a text shows.
_MOST_SHOWN = 3


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

        Nodes that declare the type come first, this node among them. Nodes that have declared nothing are candidates
        for types only that no other node declares: each of them may refuse the call.

        Args:
            type_name: Wire name of the request type.
            contract: What this process sends and expects; see ``catga_sync.serialization.contract``.
            here: Whether this node handles it.
        """
        key = (type_name, contract, here)
        found = self._candidates.get(key)
        if found is None:
            fit = [node for node in self.nodes if reason_against(node, type_name, contract) is None]
            told = [node for node in fit if node.handles is not None]
            if told or here:
                fit = told
            well = [node for node in fit if node.status is NodeStatus.ONLINE] or ([] if here else fit)
            chosen = sorted([*well, self._this], key=lambda node: node.node_id) if here else well
            found = self._candidates.setdefault(key, tuple(chosen))
        return found

    def addressees(self, type_name: str, here: bool) -> list[ClusterNode]:
        """
        Return the other nodes that a broadcast is for, in the same order of preference.

        A node that handles the type and cannot take the request now is among them: the caller gets the reason.
        """
        told = [node for node in self.nodes if node.handles is not None and type_name in node.handles]
        return told if told or here else [node for node in self.nodes if node.handles is None]

    def subscribers(self, type_name: str) -> list[ClusterNode]:
        """Return the other nodes that declare a subscriber of this type."""
        return [node for node in self.nodes if node.subscribes is not None and type_name in node.subscribes]


def not_preferred(node: ClusterNode) -> str:
    """Return why a node is left out that could take a message, as text."""
    if node.handles is None:
        return "it has not said what it handles, and others say that they handle this type"
    return f"it is {node.status.name}, and there are better ones"


def reason_against(node: ClusterNode, type_name: str, contract: str) -> str | None:
    """Return why a node cannot take a message of this type, as text; None when it can."""
    if node.status is NodeStatus.DRAINING:
        return "it is going offline"
    if not node.may_handle(type_name):
        return "it does not handle this type"
    theirs = node.contracts.get(type_name)
    apart = () if theirs is None else differences(contract, theirs)
    if apart:
        more = f"; and {len(apart) - _MOST_SHOWN} more" if len(apart) > _MOST_SHOWN else ""
        return f"its form of this type cannot be read from here: {'; '.join(apart[:_MOST_SHOWN])}{more}"
    return None
